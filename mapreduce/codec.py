"""BSON encoding and decoding for the whole engine: dates become timezone-aware UTC, UUIDs stay UUIDs.

Reading is more lenient than pymongo, since one value must not make the other documents of a batch unreadable: binary
data that is marked as a UUID but has not its 16 bytes stays binary data, and a date beyond Python's years a
`DatetimeMS`. And a document stays a document: pymongo makes a `DBRef` of `{"$ref": ..., "$id": ...}`, which no map of
events expects.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any

import bson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.errors import BSONError, InvalidBSON
from bson.raw_bson import RawBSONDocument

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAIVE_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - the decoder returns naive dates that mean UTC
_UUID_BYTES = 16
_length_at = Struct("<i").unpack_from


class _Aware(TypeDecoder):
    """Make decoded dates aware. With the decoder's own `tz_aware`, decoding an event takes twice as long."""

    bson_type = datetime.datetime

    def transform_bson(self, value: datetime.datetime) -> datetime.datetime:
        return _EPOCH + (value - _NAIVE_EPOCH)


class _PlainReference(TypeDecoder):
    """Decode `{"$ref": ..., "$id": ...}` as a dict, with these two and `$db` first. Costs nothing beside `_Aware`."""

    bson_type = DBRef

    def transform_bson(self, value: DBRef) -> dict[str, Any]:
        return dict(value.as_doc())


class _ReferenceError(InvalidBSON):
    """The bytes hold a document of which the driver makes a `DBRef`. Of this base class the C decoder lets it pass."""


class _NoReference(TypeDecoder):
    """Stop decoding at a `DBRef`: it has lost the order of the fields, and a `$db` of null."""

    bson_type = DBRef

    def transform_bson(self, value: DBRef) -> dict[str, Any]:
        raise _ReferenceError


class _Uuid(TypeDecoder):
    """Decode UUIDs. The driver itself refuses the whole batch for one of another length."""

    bson_type = Binary

    def transform_bson(self, value: Binary) -> uuid.UUID | Binary:
        return as_uuid(value)


def as_uuid(value: Binary) -> uuid.UUID | Binary:
    """Return the UUID that `value` is in BSON; `value` itself if it is none."""
    is_uuid = value.subtype == UUID_SUBTYPE and len(value) == _UUID_BYTES
    return uuid.UUID(bytes=bytes(value)) if is_uuid else value


PLAIN = TypeRegistry([_PlainReference()])  # for clients, whose dates the driver itself makes aware

# To read. The driver encodes with it, too, but no UUIDs: pass it conditions that hold values as `encoded` ones.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=False,
    type_registry=TypeRegistry([_Aware(), _PlainReference(), _Uuid()]),
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
# To write.
ENCODING: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
# For commands: read their replies by `decode`, because the driver uses no type decoders for these.
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, uuid_representation=UuidRepresentation.STANDARD
)
_WITHOUT_REFERENCES = CODEC.with_options(type_registry=TypeRegistry([_Aware(), _NoReference(), _Uuid()]))
_EXACT: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    type_registry=CODEC.type_registry,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


class NestedTooDeepError(InvalidBSON):
    """Documents and lists are nested deeper than can be encoded or decoded, about 900 levels."""

    def __init__(self) -> None:
        super().__init__("nested too deep")


# Raised by encoding a value that is not BSON-able, or by decoding bytes that are not BSON.
NOT_BSON = (BSONError, OverflowError, TypeError, ValueError)


def encode(document: Any) -> bytes:
    """Return `document` as BSON. Raise one of `NOT_BSON`."""
    try:
        return bson.encode(document, codec_options=ENCODING)
    except RecursionError:
        raise NestedTooDeepError from None


def encoded(document: Mapping[str, Any]) -> RawBSONDocument:
    """Return `document` as a document whose values are encoded already. Raise one of `NOT_BSON`."""
    return RawBSONDocument(encode(document))


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """Return the single document in `data`. Raise one of `NOT_BSON`."""
    try:
        return bson.decode(data, _WITHOUT_REFERENCES)
    except _ReferenceError:
        return _exactly(bytes(data))
    except RecursionError:
        raise NestedTooDeepError from None


def decode_each(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the documents in `data`, which follow each other without gaps. Raise one of `NOT_BSON`."""
    start = 0
    while start < len(data):
        length = _length_at(data, start)[0] if len(data) - start > 4 else 0
        if length <= 0:
            raise InvalidBSON("not a whole document")
        yield decode(data[start : start + length])
        start += length


def decode_batches(cursor: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the documents of a cursor of `find_raw_batches`. Raise one of `NOT_BSON`, and what the driver raises."""
    for batch in cursor:
        yield from decode_each(batch)


def _exactly(data: bytes) -> dict[str, Any]:
    """Decode without `DBRef`, which has lost the order of the fields and a `$db` of null. Takes five times as long."""
    try:
        found: dict[str, Any] = _unwrapped(bson.decode(data, _EXACT))
    except RecursionError:
        raise NestedTooDeepError from None
    return found


def _unwrapped(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        return {name: _unwrapped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    if isinstance(value, Code) and value.scope is not None:
        return Code(str(value), _unwrapped(value.scope))
    return value


def why_not_bson(error: Exception) -> str:
    """Return for a person why encoding raised `error`, one of `NOT_BSON`, and what to do about numbers."""
    if isinstance(error, OverflowError):
        return "a whole number of more than 64 bits: use a float, or bson.Decimal128 for 34 exact digits"
    return str(error)
