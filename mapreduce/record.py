"""Job records in MongoDB: what a restarted router goes on with, and where ended jobs are looked up.

One thread does all reading and writing in the order it was asked for. What it found goes back to the router's thread.
"""

from __future__ import annotations

import datetime
import logging
import queue
import re
import threading
from collections.abc import Callable
from typing import Any

from pymongo import ASCENDING, DESCENDING, MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from mapreduce.codec import CODEC
from mapreduce.commit import REPLACEMENTS, replacement_owner
from mapreduce.exceptions import MapReduceError, StoreUnavailableError
from mapreduce.spec import END_STATES, RUNNING_STATES

COLLECTION = "zmr.job"
ROUTER_COLLECTION = "zmr.router"
ROUTER_ID = "router"  # one document: the router that wrote last
KEPT_S = 14 * 24 * 3600  # ended jobs are forgotten after this
SERVER_TIMEOUT_MS = 5_000
_RETRY_S = 0.5

log = logging.getLogger(__name__)

Found = Callable[[Any], None]
Operation = Callable[[Collection[dict[str, Any]]], Any]


class Recorder:
    """Runs operations on `zmr.job` in a thread of its own, one after the other.

    Each operation's result, or `MapReduceError`, is handed to its `found` by whoever calls `deliver`; `wake` is called
    in the recorder's thread when there is something to deliver.
    """

    def __init__(self, address: Callable[[], str], database: str, wake: Callable[[], None]) -> None:
        self._address = address
        self._database = database
        self._wake = wake
        self._asked: queue.SimpleQueue[tuple[Operation, Found | None, bool] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Found, Any]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._client: MongoClient[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="zmr-recorder", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish what was asked for, unless MongoDB is away, and end the thread."""
        self._stopping.set()
        self._asked.put(None)
        self._thread.join(timeout_s)

    def ask(self, operation: Operation, found: Found | None = None, *, insist: bool = False) -> None:
        """Queue an operation; with `insist` it is repeated until MongoDB takes it."""
        self._asked.put((operation, found, insist))

    def deliver(self) -> None:
        """Call `found` for every answer that is there, in the calling thread."""
        while True:
            try:
                found, answer = self._answers.get_nowait()
            except queue.Empty:
                return
            found(answer)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            operation, found, insist = asked
            answer = self._attempt(operation, insist)
            if found is not None:
                self._answers.put((found, answer))
                self._wake()
        self._disconnect()

    def _attempt(self, operation: Operation, insist: bool) -> Any:
        while True:
            try:
                return operation(self._collection())
            except MapReduceError as error:
                return error
            except (PyMongoError, OSError) as error:
                if isinstance(error, ConnectionFailure | OperationFailure):
                    self._disconnect()  # it may come up at another address, or with another login
                if not insist or self._stopping.is_set():
                    return StoreUnavailableError(f"job records cannot be read or written: {error}")
                log.warning("job records: %s; trying again", error)
                self._stopping.wait(_RETRY_S)
            except Exception as error:
                log.exception("job records")
                return MapReduceError(f"job records: {type(error).__name__}: {error}")

    def _collection(self) -> Collection[dict[str, Any]]:
        if self._client is None:
            try:
                address = self._address()
            except Exception as error:
                raise StoreUnavailableError(f"MongoDB: {error}") from error
            self._client = MongoClient(address, serverSelectionTimeoutMS=SERVER_TIMEOUT_MS)
        return self._client.get_database(self._database).get_collection(COLLECTION, codec_options=CODEC)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def prepare(collection: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make the indexes, and return the records of jobs that have not ended, oldest first."""
    collection.create_index("ended", expireAfterSeconds=KEPT_S)
    collection.create_index([("created", DESCENDING)])
    collection.create_index([("state", ASCENDING), ("created", DESCENDING)])
    return list(collection.find({"state": {"$in": list(RUNNING_STATES)}}).sort("created", 1))


def insert(record: dict[str, Any], *, durable: bool = True) -> Operation:
    """Insert; gives None, or the record that has the id already."""

    def operation(collection: Collection[dict[str, Any]]) -> dict[str, Any] | None:
        concern = WriteConcern(w="majority", j=True) if durable else WriteConcern(w=1)
        records = collection.with_options(write_concern=concern)
        try:
            records.insert_one(record)
        except DuplicateKeyError:
            return records.find_one({"_id": record["_id"]})
        return None

    return operation


def update(job_id: str, fields: dict[str, Any], *, durable: bool) -> Operation:
    """Set fields of a record. An ended record stays as it is."""

    def operation(collection: Collection[dict[str, Any]]) -> None:
        concern = WriteConcern(w="majority", j=True) if durable else WriteConcern(w=1)
        changed = {**fields, "updated": datetime.datetime.now(datetime.UTC)}
        if fields.get("state") in END_STATES:
            changed["ended"] = changed["updated"]
        collection.with_options(write_concern=concern).update_one(
            {"_id": job_id, "state": {"$nin": list(END_STATES)}}, {"$set": changed}
        )

    return operation


def find(job_id: str) -> Operation:
    """The record of a job, or None."""
    return lambda collection: collection.find_one({"_id": job_id}, {"plan": 0})


def recent(count: int) -> Operation:
    """The newest records, newest first."""
    return lambda collection: list(collection.find({}, {"plan": 0}).sort("created", DESCENDING).limit(count))


def drop_leftovers(database: str) -> Operation:
    """Drop results in `database` that lie unpublished and whose job has ended, as its record says."""

    def operation(collection: Collection[dict[str, Any]]) -> None:
        target = collection.database.client.get_database(database)
        for name in target.list_collection_names(filter={"name": {"$regex": f"^{re.escape(REPLACEMENTS)}"}}):
            owner = replacement_owner(name)
            states = collection.distinct("state", {"_id": {"$regex": f"^{re.escape(owner)}"}}) if owner else []
            if states and set(states) <= set(END_STATES):
                target.drop_collection(name)
                log.info("unpublished results dropped: %s", name)

    return operation


def live(document: dict[str, Any]) -> Operation:
    """Say how the router stands: see `mapreduce.live`."""

    def operation(collection: Collection[dict[str, Any]]) -> None:
        target = collection.database.get_collection(ROUTER_COLLECTION, write_concern=WriteConcern(w=1))
        target.update_one({"_id": ROUTER_ID}, {"$set": document, "$currentDate": {"seen": True}}, upsert=True)

    return operation
