"""Read documents of other collections as events, such as those of the Zarkov of 2011."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from ingest.load.file_format import NumberedEvent
from ingest.wire.bson_element import DOCUMENT, assembled, elements, text_element
from ingest.wire.codec import decode
from ingest.wire.stored_event import timestamp_of

FIELDS_OF_2011 = (b"jobs", b"aggregates")  # named what had read the event; positions have replaced them
_RAW = CodecOptions(document_class=RawBSONDocument)


def as_event(raw: bytes, source: str, *, value: bool = False) -> bytes:
    """Return a document, or its field `value`, as the BSON of an event. Raise `ValueError` if that is no document,
    or if there is no `_id`, as in some views: equal ones could not be told apart.

    `_id` and the marks of 2011 are dropped; all other fields keep their bytes. Without `id` the event gets one made of
    `source` and `_id`; without a timestamp it gets that of an ObjectId in `_id`.
    """
    key = _key_element(raw)
    if not key:
        raise ValueError("it has no _id, as in a view without it: equal documents could not be told apart")
    event = _value_of(raw) if value else raw
    parts = {name: event[start:end] for name, start, end in elements(event) if name not in (b"_id", *FIELDS_OF_2011)}
    if b"timestamp" not in parts and (moment := timestamp_of(key)):
        parts[b"timestamp"] = moment
    if b"id" not in parts:
        parts[b"id"] = text_element("id", hashlib.sha256(source.encode() + b"\0" + assembled(key)).hexdigest()[:32])
    return assembled(*parts.values())


def _key_element(raw: bytes) -> bytes:
    return next((raw[start:end] for name, start, end in elements(raw) if name == b"_id"), b"")


def _decoded(key: bytes) -> Any:
    return decode(assembled(key)).get("_id")


def _value_of(raw: bytes) -> bytes:
    for name, start, end in elements(raw):
        if name == b"value" and raw[start] == DOCUMENT:
            return raw[start + len(b"?value\0") : end]
    found = decode(raw).get("value")
    raise ValueError(f"value is {type(found).__name__}; must be a document")


def read(
    collection: Collection[Any], *, after: str | None = None, value: bool = False,
    on_key: Callable[[str], None] = lambda key: None,
) -> Iterator[NumberedEvent]:  # fmt: skip
    """Yield the documents of a collection as events, in order of `_id`, from `after` (inclusive, a `key_text`) on.

    Numbers count from 1. `on_key` is called with the `key_text` of each document before its event is yielded.
    """
    found = collection.with_options(codec_options=_RAW).find({}).sort("_id", 1)
    if after is not None:
        found = found.hint("_id_").min([("_id", loads(after)["_id"])])
    source = collection.full_name
    for number, document in enumerate(found, 1):
        raw = bytes(document.raw)
        key = _decoded(_key_element(raw))
        on_key(key_text(key))
        try:
            yield NumberedEvent(number, as_event(raw, source, value=value))
        except (ValueError, BSONError, OverflowError) as error:
            yield NumberedEvent(number, fault=f"_id {key!r:.80}: {error}")


def key_text(key: Any) -> str:
    """Return an `_id` as text that `read` accepts as `after`."""
    return dumps({"_id": key}, json_options=CANONICAL_JSON_OPTIONS)
