"""Write a CSV file and load it as `loadevents` does, without an ingester."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions

from ingest.load.column import parse_mapping
from ingest.load.file_format import FileOptions, read

AWARE = CodecOptions[dict[str, Any]](tz_aware=True)


def write(path: Path, content: str | bytes) -> Path:
    """Write text in UTF-8, or bytes, and return the path."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def loaded(path: Path, *mapping: str, delimiter: str = "") -> list[tuple[int, dict[str, Any] | str]]:
    """Return the number of each row with its event, without a made `id`, or with its fault."""
    found = read(path, FileOptions(parse_mapping(mapping), delimiter))
    return [
        (line.number, line.fault or {k: v for k, v in bson.decode(line.event, AWARE).items() if k != "id"})
        for line in found
    ]
