"""Documents of other collections as events, such as those of the Zarkov of 2011."""

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

MARKS_OF_2011 = ("jobs", "aggregates")  # what had read the event; positions took their place
_LOSSLESS = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)


def as_event(document: dict[str, Any], source: str, *, value: bool = False) -> bytes:
    """The event that a document (or its field `value`) stands for. Raises `ValueError`.

    `_id` and the marks of 2011 go. The event's `id` is made of source and `_id`, unless it has one; its time, when it
    has none, is that of an ObjectId.
    """
    key = document.get("_id")
    event = document.get("value") if value else document
    if not isinstance(event, dict):
        raise ValueError(f"value is {type(event).__name__}; allowed is a document")  # noqa: TRY004 - one kind of fault
    event = {name: item for name, item in event.items() if name not in ("_id", *MARKS_OF_2011)}
    if "timestamp" not in event and isinstance(key, ObjectId):
        event["timestamp"] = key.generation_time.astimezone(dt.UTC)
    event.setdefault("id", hashlib.sha256(source.encode() + b"\0" + bson.encode({"_id": key})).hexdigest()[:32])
    return bson.encode(event, codec_options=_LOSSLESS)


def read(
    collection: Collection[Any], *, after: str | None = None, value: bool = False,
    on_key: Callable[[str], None] = lambda key: None,
) -> Iterator[NumberedEvent]:  # fmt: skip
    """The documents of a collection in order of `_id`, from `after` (with it; as `key_text` wrote it) on.

    `Line.number` counts from 1; `on_key` hears the `_id` of each line before it is yielded.
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
    """An `_id` as text from which it can be read again."""
    return dumps({"_id": key}, json_options=CANONICAL_JSON_OPTIONS)
