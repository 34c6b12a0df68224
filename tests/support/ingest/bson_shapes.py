"""Hand-made BSON: every type of https://bsonspec.org/spec.html in every position, as no encoder would write it.

All choices come from a `random.Random`, so that a seed or hypothesis (`st.randoms()`) can drive them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.support.ingest import bson_shapes as shapes

LONG = struct.Struct("<q").pack
INT = struct.Struct("<i").pack
NAMES = ("type", "context", "timestamp", "extra", "id", "_id", "$command", "$source", "code", "raw", "message")
INNER_NAMES = ("a", "", "$ref", "$id", "$db", "id", "type", "0", "a.b", "$where")
TEXTS = ("", "x", "event_noval", "refused", "committed", "agg_complete", "bad_bson", "ack", "é\x00", "x" * 300)


def document(*elements: bytes) -> bytes:
    """Return a document of encoded elements."""
    body = b"".join(elements)
    return INT(len(body) + 5) + body + b"\x00"


def element(kind: int, name: str, value: bytes) -> bytes:
    """Return one encoded element."""
    return bytes([kind]) + name.encode() + b"\x00" + value


def string(text: str) -> bytes:
    """Return the value of a string element."""
    encoded = text.encode() + b"\x00"
    return INT(len(encoded)) + encoded


def references(depth: int) -> bytes:
    """Return DBRefs nested `depth` deep, as the value of an element of type 3."""
    value = document(element(2, "$ref", string("a")), element(0x10, "$id", INT(1)))
    for _ in range(depth - 1):
        value = document(element(2, "$ref", string("a")), element(3, "$id", value))
    return value


def scoped(depth: int) -> bytes:
    """Return code with scope nested `depth` deep, as the value of an element of type 15."""
    value = _code(document())
    for _ in range(depth - 2):
        value = _code(document(element(0x0F, "a", value)))
    return value


def _code(scope: bytes) -> bytes:
    text = string("x")
    return INT(4 + len(text) + len(scope)) + text + scope


def any_value(chance: random.Random, kind: int, depth: int = 3) -> bytes:
    """Return a value of type `kind`; nested ones reach at most `depth` levels deeper."""
    make = _VALUES.get(kind)
    if make is not None:
        return make(chance)
    if kind == 0x0F:
        return _code(any_document(chance, INNER_NAMES, depth - 1))
    if kind == 3 and chance.random() < 0.05:
        return references(chance.choice((2, 98, 99, 150, 250, 900)))
    return any_document(chance, INNER_NAMES, depth - 1)


def any_element(chance: random.Random, name: str, depth: int = 3) -> bytes:
    """Return an element of any type."""
    kind = chance.choice(KINDS if depth > 0 else SIMPLE_KINDS)
    if kind == 0x0F and chance.random() < 0.05:
        return element(kind, name, scoped(chance.choice((2, 99, 150, 250))))
    return element(kind, name, any_value(chance, kind, depth))


def any_document(chance: random.Random, names: tuple[str, ...] = NAMES, depth: int = 3) -> bytes:
    """Return a document with any of the names, possibly repeated, and any types."""
    return document(*(any_element(chance, chance.choice(names), depth) for _ in range(chance.randrange(5))))


def almost_event(chance: random.Random) -> bytes:
    """Return an event with one or two fields of any type, missing, or repeated."""
    fields = {
        "type": element(2, "type", string("shape")),
        "context": element(3, "context", document()),
        "timestamp": element(9, "timestamp", LONG(1_700_000_000_000)),
    }
    for _ in range(chance.randrange(1, 3)):
        name = chance.choice(NAMES)
        fields[name] = any_element(chance, name) + (fields.get(name, b"") if chance.random() < 0.2 else b"")
    if chance.random() < 0.1:
        fields["$command"] = element(2, "$command", string(chance.choice(TEXTS)))
    names = list(fields)
    chance.shuffle(names)
    return document(*(fields[name] for name in names))


def _text(chance: random.Random) -> bytes:
    return string(chance.choice(TEXTS))


def _binary(chance: random.Random) -> bytes:
    subtype = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 128, 255))
    data = chance.randbytes(chance.choice((0, 1, 4, 12, 16, 20)))
    if subtype == 2 and chance.random() < 0.7:
        data = INT(len(data)) + data
    return INT(len(data)) + bytes([subtype]) + data


def _date(chance: random.Random) -> bytes:
    return LONG(chance.choice((0, 1, -62135596800000, 253402300799999, 253402300800000, 2**62, -(2**63))))


def _regex(chance: random.Random) -> bytes:
    return (
        chance.choice((b"", b"a", b"(", b"\xc3\xa9")) + b"\x00" + chance.choice((b"", b"i", b"imsxul", b"q")) + b"\x00"
    )


_VALUES: dict[int, Callable[[random.Random], bytes]] = {
    0x01: lambda chance: chance.choice((LONG(0), b"\x00" * 6 + b"\xf0\x7f", chance.randbytes(8))),
    0x02: _text,
    0x05: _binary,
    0x06: lambda chance: b"",
    0x07: lambda chance: chance.randbytes(12),
    0x08: lambda chance: chance.choice((b"\x00", b"\x01", b"\x02")),
    0x09: _date,
    0x0A: lambda chance: b"",
    0x0B: _regex,
    0x0C: lambda chance: string("a.b") + chance.randbytes(12),
    0x0D: _text,
    0x0E: _text,
    0x10: lambda chance: INT(chance.choice((0, 5, -1))),
    0x11: lambda chance: chance.randbytes(8),
    0x12: lambda chance: LONG(chance.choice((0, 2**62, -1))),
    0x13: lambda chance: chance.randbytes(16),
    0x7F: lambda chance: b"",
    0xFF: lambda chance: b"",
}
SIMPLE_KINDS = tuple(_VALUES)
KINDS = (*SIMPLE_KINDS, 0x03, 0x04, 0x0F)


def shaped(chance: random.Random) -> bytes:
    """Return one or two documents with any BSON type anywhere."""
    make = chance.choice((shapes.almost_event, shapes.almost_event, shapes.any_document))
    return b"".join(make(chance) for _ in range(chance.choice((1, 1, 2))))


def shaped_request(chance: random.Random, number: int) -> list[bytes]:
    """Return a request with such documents, and perhaps a source frame of any shape."""
    source = shapes.document(*(shapes.any_element(chance, "$source") for _ in range(chance.choice((1, 2)))))
    if chance.random() < 0.3:
        source = shapes.document(
            shapes.element(2, "$source", shapes.string("a")), shapes.any_element(chance, "$source")
        )
    return [b"%d" % number, *chance.choice(([], [source])), shaped(chance)]
