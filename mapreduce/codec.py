"""BSON encoding and decoding for the whole engine: dates become timezone-aware UTC, UUIDs stay UUIDs.

A document stays a document: pymongo makes a `DBRef` of `{"$ref": ..., "$id": ...}`, which no map of events expects.
"""

from __future__ import annotations

import datetime
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.errors import BSONError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAIVE_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - the decoder returns naive dates that mean UTC


class _Aware(TypeDecoder):
    """Make decoded dates aware. With the decoder's own `tz_aware`, decoding an event takes twice as long."""

    bson_type = datetime.datetime

    def transform_bson(self, value: datetime.datetime) -> datetime.datetime:
        return _EPOCH + (value - _NAIVE_EPOCH)


class _PlainReference(TypeDecoder):
    """Decode `{"$ref": ..., "$id": ...}` as the dict that it is. Costs nothing beside `_Aware`."""

    bson_type = DBRef

    def transform_bson(self, value: DBRef) -> dict[str, Any]:
        return dict(value.as_doc())


PLAIN = TypeRegistry([_PlainReference()])  # for clients, whose dates the driver itself makes aware

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=False,
    type_registry=TypeRegistry([_Aware(), _PlainReference()]),
    uuid_representation=UuidRepresentation.STANDARD,
    # A date that Python cannot represent must not make the other documents of the batch unreadable.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

# Raised by encoding a value that is not BSON-able, or by decoding bytes that are not BSON.
NOT_BSON = (BSONError, OverflowError, TypeError, ValueError)


def encode(document: Any) -> bytes:
    """Return `document` as BSON. Raise one of `NOT_BSON`."""
    return bson.encode(document, codec_options=CODEC)


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """Return the single document in `data`. Raise one of `NOT_BSON`."""
    return bson.decode(data, CODEC)


def why_not_bson(error: Exception) -> str:
    """Return for a person why encoding raised `error`, one of `NOT_BSON`, and what to do about numbers."""
    if isinstance(error, OverflowError):
        return "a whole number of more than 64 bits: use a float, or bson.Decimal128 for 34 exact digits"
    return str(error)
