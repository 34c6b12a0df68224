"""Write the names of metrics as the text protocols of statsd and graphite read them."""

from __future__ import annotations

import argparse
import hashlib
import re

from ingest.metrics.identity import NOT_SPECIFIED, Identity

PART_BYTES = 200  # of one part of a path: whisper makes a file of it, whose name has at most 255 with `.wsp`
PATH_BYTES = 1_000  # of a path, which has to fit into a datagram, and whisper's folders into the system's longest path
EMPTY_PART = "_x00"  # no name contains a NUL, so no other part is written like this
_REJECTED = re.compile(r"[^A-Za-z0-9_.-]|_(?=x[0-9A-F]{2})")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*\Z")


def path(metric: Identity, prefix: str) -> str:
    """Return the name with source and tags; characters that statsd or graphite reject become `_x` and hex bytes.

    Dots separate parts. An empty part, as in `a..b`, becomes `_x00`: carbon would make a folder without a name of it.
    A part or a path that is too long for carbon ends in `_x00` and a hash of it.
    """
    parts = [metric.name] if metric.source == NOT_SPECIFIED else [metric.source, metric.name]
    parts += [f"{key}_{value}" for key, value in metric.tags]
    parts += ["error"] if metric.outcome else []
    encoded = ".".join(_REJECTED.sub(_hex_encoded, part) for part in parts)
    if len(encoded) > PART_BYTES:
        encoded = ".".join(_shortened(part, PART_BYTES) for part in encoded.split("."))
    whole = ".".join(part or EMPTY_PART for part in encoded.split("."))
    return prefix + _shortened(whole, PATH_BYTES)


def _shortened(text: str, most: int) -> str:
    """Return `text`, or its start and a hash of it. Only there `_x00` is followed by anything but a dot."""
    if len(text) <= most:
        return text
    mark = EMPTY_PART + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return text[: most - len(mark)].rstrip(".") + mark


def _hex_encoded(found: re.Match[str]) -> str:
    return "".join(f"_x{byte:02X}" for byte in found[0].encode())


def path_prefix(text: str) -> str:
    """Return `text` for the option `--prefix`. Raise `ArgumentTypeError` for what cannot begin a path."""
    if not _PREFIX.match(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot begin a path: use letters, digits, _ and - with single dots between them, such as shop."
        )
    return text
