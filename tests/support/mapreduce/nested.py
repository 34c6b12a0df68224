"""Make BSON that is nested deeper than any encoder goes."""

from __future__ import annotations

import struct
from typing import Any

from mapreduce.codec import encode


def nested(depth: int, at: str, **others: Any) -> bytes:
    """Return a document with the other fields and, as `at`, documents that are nested `depth` levels deep."""
    starts = [struct.pack("<i", 5 + 8 * inside) + b"\x03a\0" for inside in range(depth - 1, 0, -1)]
    inner = b"".join(starts) + b"\x05\0\0\0\0" + b"\0" * len(starts)
    others.pop(at, None)
    rest = encode(others)[4:-1] + b"\x03" + at.encode() + b"\0" + inner
    return struct.pack("<i", len(rest) + 5) + rest + b"\0"
