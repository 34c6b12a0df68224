"""How BSON is read and written everywhere in the engine: dates as timezone-aware UTC, UUIDs as themselves."""

from __future__ import annotations

from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    # No `tzinfo`: the decoder's own UTC spares one conversion per date, a third of the time to decode an event.
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    # A date that Python cannot hold must not make the documents beside it unreadable.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

# What encoding or decoding raises for a value that is not BSON-able, or bytes that are not BSON.
NOT_BSON = (BSONError, OverflowError, TypeError, ValueError)


def encode(document: Any) -> bytes:
    """`document` as BSON. Raises one of `NOT_BSON`."""
    return bson.encode(document, codec_options=CODEC)


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """The one document in `data`. Raises one of `NOT_BSON`."""
    return bson.decode(data, CODEC)
