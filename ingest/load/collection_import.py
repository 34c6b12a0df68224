"""Read documents of other collections as events, such as those of the Zarkov of 2011."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from pymongo.collection import Collection

from ingest.load.file_format import NumberedEvent

FIELDS_OF_2011 = ("jobs", "aggregates")  # named what had read the event; positions have replaced them
_LOSSLESS = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)


def as_event(document: dict[str, Any], source: str, *, value: bool = False) -> bytes:
    """Return the document, or its field `value`, as the BSON of an event. Raise `ValueError` if that is no document.

    `_id` and the marks of 2011 are dropped. Without `id` the event gets one made of `source` and `_id`; without a
    timestamp it gets that of an ObjectId in `_id`.
    """
    key = document.get("_id")
    event = document.get("value") if value else document
    if not isinstance(event, dict):
        raise ValueError(f"value is {type(event).__name__}; must be a document")  # noqa: TRY004 - one kind of error
    event = {name: item for name, item in event.items() if name not in ("_id", *FIELDS_OF_2011)}
    if "timestamp" not in event and isinstance(key, ObjectId):
        event["timestamp"] = key.generation_time.astimezone(dt.UTC)
    event.setdefault("id", hashlib.sha256(source.encode() + b"\0" + bson.encode({"_id": key})).hexdigest()[:32])
    return bson.encode(event, codec_options=_LOSSLESS)


def read(
    collection: Collection[Any], *, after: str | None = None, value: bool = False,
    on_key: Callable[[str], None] = lambda key: None,
) -> Iterator[NumberedEvent]:  # fmt: skip
    """Yield the documents of a collection as events, in order of `_id`, from `after` (inclusive, a `key_text`) on.

    Numbers count from 1. `on_key` is called with the `key_text` of each document before its event is yielded.
    """
    found = collection.with_options(codec_options=_LOSSLESS).find({}).sort("_id", 1)
    if after is not None:
        found = found.hint("_id_").min([("_id", loads(after)["_id"])])
    source = collection.full_name
    for number, document in enumerate(found, 1):
        on_key(key_text(document["_id"]))
        try:
            yield NumberedEvent(number, as_event(document, source, value=value))
        except (ValueError, BSONError, OverflowError) as error:
            yield NumberedEvent(number, fault=f"_id {document['_id']!r:.80}: {error}")


def key_text(key: Any) -> str:
    """Return an `_id` as text that `read` accepts as `after`."""
    return dumps({"_id": key}, json_options=CANONICAL_JSON_OPTIONS)
