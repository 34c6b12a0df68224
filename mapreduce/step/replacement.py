"""Publish the results of a `replace` job: they replace the output collection in one step once they are complete."""

from __future__ import annotations

import datetime
import re
from typing import Any

from pymongo import ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from mapreduce.codec import RAW, decode
from mapreduce.job.spec_check import REPLACEMENTS

PUBLISHED = "zmr.published"  # UUIDs of the collections to be published, by unpublished name
MARK_KEPT = datetime.timedelta(days=30)  # far longer than a job lives
DURABLE = WriteConcern(w="majority", j=True)
_REPLACEMENT = re.compile(rf"{re.escape(REPLACEMENTS)}([^.]+)\.(?:zagg|zgen)\.")
_DOT = "~"  # replaces the dots of a job id in a collection name; job ids contain no tilde
_NAMESPACE_NOT_FOUND = 26
_NAMESPACE_EXISTS = 48


def replacement_name(collection: str, job_id: str) -> str:
    """Return the collection that holds the results of a `replace` job until they replace `collection`."""
    return f"{REPLACEMENTS}{job_id.replace('.', _DOT)}.{collection}"


def replacement_owner(name: str) -> str | None:
    """Return the id of the job whose unpublished results are in `name`; None for any other collection."""
    found = _REPLACEMENT.match(name)
    return found[1].replace(_DOT, ".") if found else None


def prepare_replacement(database: Database[dict[str, Any]], job_id: str, collection: str) -> None:
    """Create the collection for the results of a `replace` job, unless this job has one already.

    It can be called again at any time: a planner that wakes up late removes no results.
    """
    name = replacement_name(collection, job_id)
    try:
        database.with_options(write_concern=DURABLE).create_collection(name, check_exists=False)
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise


def publish(database: Database[dict[str, Any]], job_id: str, collection: str) -> None:
    """Replace `collection` by the results of a `replace` job, in one step. Harmless if that is already done.

    The first call records the UUID of the collection with the results before renaming it. A step that wakes up late
    can recreate a collection of that name, empty or with some of the results: it is dropped, not published.
    """
    durable = database.with_options(write_concern=DURABLE)
    name = replacement_name(collection, job_id)
    marks: Collection[dict[str, Any]] = durable[PUBLISHED]
    there = _identity(durable, name)
    now = datetime.datetime.now(datetime.UTC)
    mark = marks.find_one_and_update(
        {"_id": name}, {"$setOnInsert": {"uuid": there, "at": now}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    if there is None:
        return
    if mark is None or there != mark["uuid"]:
        durable.drop_collection(name)
        return
    try:
        durable[name].rename(collection, dropTarget=True)
    except OperationFailure as error:
        if error.code != _NAMESPACE_NOT_FOUND:
            raise
    marks.delete_many({"at": {"$lt": now - MARK_KEPT}})


def _identity(database: Database[dict[str, Any]], name: str) -> str | None:
    """Return MongoDB's UUID of the collection `name`, which survives a rename; None if there is no such collection."""
    reply = decode(database.command("listCollections", filter={"name": name}, codec_options=RAW).raw)
    found = reply["cursor"]["firstBatch"]
    return found[0]["info"]["uuid"].hex if found else None
