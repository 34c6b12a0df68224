"""Decode BSON so that a document stays a document, whatever its fields are called.

pymongo turns a document with the fields `$ref` and `$id` into a `DBRef`, which is not a mapping: a reader that walks
events would fail on it. A type decoder is the only place where the driver lets go of it
(https://pymongo.readthedocs.io/en/stable/examples/custom_type.html). `mapreduce.codec` does the same for the engine.
"""

from __future__ import annotations

from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.dbref import DBRef


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
# The options for bytes that were refused or come from elsewhere: any date can be read, too.
PLAIN_ANY_DATE = CodecOptions[dict[str, Any]](type_registry=PLAIN, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
