"""Walk encoded BSON without decoding it: its top-level elements and its nesting depth.

This finds what a decoded document hides: a dict keeps only the last of several elements with the same name, and
references and scopes of code are not dicts. Layout: https://bsonspec.org/spec.html.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from itertools import islice

from bson.errors import InvalidBSON

_INT = struct.Struct("<i")
_LENGTH = _INT.unpack_from
DOCUMENT, _ARRAY, _SCOPED_CODE = 0x03, 0x04, 0x0F
_STRING, _REGEX = 0x02, 0x0B
SMALLEST_BYTES = 5  # of a document without elements
_FLAT_ELEMENTS = 16


def is_framed(raw: bytes) -> bool:
    """Return whether the length prefix matches `raw`, as it must in a sequence of documents."""
    return len(raw) >= 5 and int(_LENGTH(raw)[0]) == len(raw)


def assembled(*parts: bytes) -> bytes:
    """Return the document that consists of these encoded elements."""
    return _INT.pack(sum(map(len, parts)) + 5) + b"".join(parts) + b"\x00"


def text_element(name: str, text: str) -> bytes:
    encoded = text.encode()
    return bytes([_STRING]) + name.encode() + b"\x00" + _INT.pack(len(encoded) + 1) + encoded + b"\x00"


def elements(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each top-level element. Raise `InvalidBSON` at the first malformed one."""
    try:
        position, last = 4, len(raw) - 1
        while kind := raw[position]:
            end = value = raw.index(b"\x00", position + 1) + 1
            if kind in _COUNTED:  # inlined for speed: clients walk every event they send
                end += _LENGTH(raw, value)[0] + _COUNTED[kind]
            else:
                end += _FIXED[kind] if kind != _REGEX else _regex_bytes(raw, value)
            if not value <= end <= last:
                raise InvalidBSON(f"an element at byte {position} reaches beyond its document")
            yield raw[position + 1 : value - 1], position, end
            position = end
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InvalidBSON(f"not BSON: {error}") from None


def has_element(raw: bytes, name: bytes) -> bool:
    """Return whether there is a top-level element called `name`. Raise `InvalidBSON` as `elements` does."""
    for found, _, _ in elements(raw):  # noqa: SIM110 - any() with a generator takes a third longer
        if found == name:
            return True
    return False


def is_flat(raw: bytes) -> bool:
    """Return whether a document has only a few elements, none of which holds others: it is decoded at once."""
    try:
        kinds = [raw[start] for _, start, _ in islice(elements(raw), _FLAT_ELEMENTS + 1)]
    except InvalidBSON:
        return False
    return len(kinds) <= _FLAT_ELEMENTS and not {DOCUMENT, _ARRAY, _SCOPED_CODE} & set(kinds)


def is_deeper(raw: bytes, most: int) -> bool:
    """Return whether documents, arrays and scopes of code are nested more than `most` deep, the outermost included.

    Raise `InvalidBSON` if the bytes are not BSON.
    """
    if raw.count(DOCUMENT) + raw.count(_ARRAY) + raw.count(_SCOPED_CODE) < most:
        return False  # each level needs at least one of these bytes
    try:
        return _walk_deeper(raw, most)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InvalidBSON(f"not BSON: {error}") from None


def _walk_deeper(raw: bytes, most: int) -> bool:
    index = raw.index
    position, level = 4, 1
    while level:
        kind = raw[position]
        if not kind:
            level -= 1
            position += 1
            continue
        value = index(b"\x00", position + 1) + 1
        if kind in (DOCUMENT, _ARRAY):
            following, level = value + 4, level + 1
        elif kind == _SCOPED_CODE:
            following, level = value + 4 + 4 + _LENGTH(raw, value + 4)[0] + 4, level + 1
        elif kind in _COUNTED:
            following = value + _LENGTH(raw, value)[0] + _COUNTED[kind]
        else:
            following = value + (_FIXED[kind] if kind != _REGEX else _regex_bytes(raw, value))
        if level > most:
            return True
        if following < value:
            raise InvalidBSON(f"an element at byte {position} has a negative length")
        position = following
    return False


def _regex_bytes(raw: bytes, at: int) -> int:
    return raw.index(b"\x00", raw.index(b"\x00", at) + 1) + 1 - at


# Size of a value in bytes, by its kind: fixed, or its length prefix plus a constant.
_FIXED = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0
}  # fmt: skip
_COUNTED = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}


def document_ends(message: bytes, start: int, most_count: int, most_bytes: int) -> list[int]:
    """Return where the documents that follow one another from `start` on end, by their length prefixes.

    At most `most_count` of them, and all but the first within `most_bytes`; none if no whole document starts there.
    """
    ends: list[int] = []
    position, end, limit = start, len(message), start + most_bytes
    while end - position >= SMALLEST_BYTES and len(ends) < most_count:
        length = _LENGTH(message, position)[0]
        if length < SMALLEST_BYTES or length > end - position:
            break
        position += length
        if position > limit and ends:
            break
        ends.append(position)
    return ends


def split(
    message: bytes, start: int = 0, *, most_count: int = sys.maxsize, most_bytes: int = sys.maxsize
) -> tuple[list[bytes], int]:
    """Return the documents in `message` from `start` on, within both limits as `document_ends` does, and their end."""
    if not start and len(message) >= SMALLEST_BYTES and _LENGTH(message)[0] == len(message):
        return [message], len(message)
    ends = document_ends(message, start, most_count, most_bytes)
    raws = []
    for end in ends:
        raws.append(message[start:end])
        start = end
    return raws, start


def split_documents(payload: bytes) -> list[bytes]:
    """Return the BSON documents that follow one another in `payload`. Raise `ValueError` if it holds anything else."""
    documents, end = split(payload)
    if end < len(payload):
        raise ValueError(f"no document starts at byte {end} of {len(payload)}")
    return documents
