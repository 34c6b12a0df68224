"""Decode BSON so that a document stays a document, whatever its fields are called.

pymongo turns a document with the fields `$ref` and `$id` into a `DBRef`, which is not a mapping: a reader that walks
events would fail on it. A type decoder is the only place where the driver lets go of it
(https://pymongo.readthedocs.io/en/stable/examples/custom_type.html). `mapreduce.codec` does the same for the engine.
"""

from __future__ import annotations

from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.dbref import DBRef
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument


class PlainReference(TypeDecoder):
    """Decode `{"$ref": ..., "$id": ...}` as the dict that it is; its other fields come after these two."""

    bson_type = DBRef

    def transform_bson(self, value: DBRef) -> dict[str, Any]:
        return dict(value.as_doc())


PLAIN = TypeRegistry([PlainReference()])
# What clients that read events take: no date makes them fail. Binary data that is marked as a UUID stays what it is.
CLIENT_OPTIONS: dict[str, Any] = {
    "tz_aware": True,
    "type_registry": PLAIN,
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
}


class _ReferenceError(InvalidBSON):
    """The bytes hold a document of which the driver makes a `DBRef`. Of this base class the C decoder lets it pass."""


class _NoReference(TypeDecoder):
    bson_type = DBRef

    def transform_bson(self, value: DBRef) -> dict[str, Any]:
        raise _ReferenceError


_ANY_DATE = DatetimeConversion.DATETIME_AUTO
_WITHOUT_REFERENCES = CodecOptions[dict[str, Any]](
    type_registry=TypeRegistry([_NoReference()]), datetime_conversion=_ANY_DATE
)
_EXACT = CodecOptions(document_class=RawBSONDocument, type_registry=PLAIN, datetime_conversion=_ANY_DATE)


def decode(raw: bytes) -> dict[str, Any]:
    """Return the document in bytes that were refused or come from elsewhere, with any date. Raise `BSONError`.

    The fields of a reference stay as they are: a `DBRef` has lost their order, and a `$db` of null.
    """
    try:
        return bson.decode(raw, _WITHOUT_REFERENCES)
    except _ReferenceError:
        found: dict[str, Any] = _unwrapped(bson.decode(raw, _EXACT))
        return found


def _unwrapped(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        return {name: _unwrapped(item) for name, item in value.items()}
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value
