"""Job records in MongoDB: what a restarted router goes on with, and where ended jobs are looked up.

One thread does all reading and writing in the order it was asked for. What it found goes back to the router's thread.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pymongo import ASCENDING, DESCENDING, MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, OperationFailure

from mapreduce.codec import CODEC, NOT_BSON
from mapreduce.exceptions import MapReduceError, ResultTooBigError, StoreUnavailableError
from mapreduce.job.spec import END_STATES, ERROR, RUNNING_STATES
from mapreduce.job.spec_check import REPLACEMENTS
from mapreduce.step.commit import replacement_owner
from mapreduce.store_error import as_engine_error, may_have_moved
from mapreduce.task_error import described

COLLECTION = "zmr.job"
ROUTER_COLLECTION = "zmr.router"
ROUTER_ID = "router"  # one document: the router that wrote last
KEPT_S = 14 * 24 * 3600  # ended jobs are forgotten after this
SERVER_TIMEOUT_MS = 5_000
SOCKET_TIMEOUT_MS = 30_000  # a server that has not answered for so long is away, whatever its connections say
_RETRY_S = 0.5
_INDEXES: tuple[tuple[list[tuple[str, int]], dict[str, Any]], ...] = (
    ([("ended", ASCENDING)], {"expireAfterSeconds": KEPT_S}),
    ([("created", DESCENDING)], {}),
    ([("state", ASCENDING), ("created", DESCENDING)], {}),
)
_OTHER_INDEX = {85, 86}  # MongoDB's codes for an index that is there with other options

log = logging.getLogger(__name__)

Found = Callable[[Any], None]
Standing = Callable[["MapReduceError | None"], None]
Operation = Callable[[Collection[dict[str, Any]]], Any]


class JobStore:
    """Runs operations on `zmr.job` in a thread of its own, one after the other.

    A failure that passes by itself is tried again where that is asked for; one that does not is an answer like any.
    Each operation's result, or `MapReduceError`, is handed to its `found` by whoever calls `deliver`; `wake` is called
    in the recorder's thread when there is something to deliver. While MongoDB is away the recorder looks for it all
    the time, and what need not be done is answered with why it is not, soon after it was asked for.

    `standing` is told in the same way why MongoDB is away, once for each reason, and None when it is back.
    """

    def __init__(
        self,
        address: Callable[[], str],
        database: str,
        wake: Callable[[], None],
        standing: Standing = lambda away: None,
    ) -> None:
        self._address = address
        self._database = database
        self._wake = wake
        self._standing = standing
        self._away: MapReduceError | None = None  # as `standing` was told; the recorder's thread alone
        self._asked: queue.SimpleQueue[tuple[Operation, Found | None, bool] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Found, Any]] = queue.SimpleQueue()
        self._later: deque[tuple[Operation, Found | None, bool] | None] = deque()  # the recorder's thread alone
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
            try:
                found(answer)
            except Exception:
                log.exception("an answer about job records could not be used")

    def _run(self) -> None:
        while (asked := self._next()) is not None:
            operation, found, insist = asked
            self._tell(found, self._attempt(operation, insist))
            if self._away is not None:
                self._answer_those_who_wait(self._away)
        self._disconnect()

    def _next(self) -> tuple[Operation, Found | None, bool] | None:
        """What is to be done now: what was asked for, and to look for MongoDB while it is away."""
        if self._later:
            return self._later.popleft()
        try:
            return self._asked.get(timeout=None if self._away is None else _RETRY_S)
        except queue.Empty:
            return _look, None, False

    def _tell(self, found: Found | None, answer: Any) -> None:
        if found is not None and not self._stopping.is_set():  # after that nobody listens
            self._answers.put((found, answer))
            self._wake()

    def _attempt(self, operation: Operation, insist: bool) -> Any:
        """The operation's result, or why there is none: for a cause that passes by itself only without `insist`."""
        while True:
            try:
                answer = operation(self._collection())
            except Exception as error:
                known = as_engine_error(error)
                if known is None:
                    log.exception("job records")
                    return MapReduceError(f"job records: {described(error)}")
                moved = may_have_moved(error) or known.retryable
            else:
                self._stands(None)
                return answer
            known = type(known)(f"job records cannot be read or written: {known.message}")
            if not moved:
                return known
            self._disconnect()  # it may come up at another address, or with another login
            self._stands(known)
            if not insist or self._stopping.is_set():
                return known
            self._pause(known)

    def _stands(self, away: MapReduceError | None) -> None:
        """Tell of a change: MongoDB is away, for this reason, or back."""
        before, self._away = self._away, away
        if (before and before.message) != (away and away.message):
            self._tell(self._standing, away)

    def _pause(self, why: MapReduceError) -> None:
        """Wait before the next try. What is asked for meanwhile, and need not be done, is told why it is not."""
        end = time.monotonic() + _RETRY_S
        while not self._stopping.is_set() and (left := end - time.monotonic()) > 0:
            self._answer_those_who_wait(why, left)

    def _answer_those_who_wait(self, why: MapReduceError, wait_s: float = 0.0) -> None:
        """Tell what was asked for by now, or within `wait_s`, why it is not done; what has to be done is done later."""
        with contextlib.suppress(queue.Empty):
            while True:
                asked = self._asked.get(timeout=wait_s) if wait_s else self._asked.get_nowait()
                wait_s = 0.0
                if asked is None or asked[2]:
                    self._later.append(asked)
                else:
                    self._tell(asked[1], why)

    def _collection(self) -> Collection[dict[str, Any]]:
        if self._client is None:
            try:
                address = self._address()
            except Exception as error:
                raise StoreUnavailableError(f"MongoDB: {error}") from error
            self._client = MongoClient(
                address, serverSelectionTimeoutMS=SERVER_TIMEOUT_MS, socketTimeoutMS=SOCKET_TIMEOUT_MS
            )
        return self._client.get_database(self._database).get_collection(COLLECTION, codec_options=CODEC)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _look(collection: Collection[dict[str, Any]]) -> None:
    """Raises what a write to `collection` would raise; says that the router lives."""
    _note(collection, {"$currentDate": {"seen": True}})


def _note(collection: Collection[dict[str, Any]], update: dict[str, Any]) -> None:
    """Change what the router says of itself; nobody minds when the last of it is lost."""
    target = collection.database.get_collection(ROUTER_COLLECTION, write_concern=WriteConcern(w=1))
    target.update_one({"_id": ROUTER_ID}, update, upsert=True)


def prepare(collection: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make the indexes, and return the records of jobs that have not ended, oldest first.

    Of a record that cannot be decoded, only the id is returned.
    """
    for keys, options in _INDEXES:
        try:
            collection.create_index(keys, **options)
        except OperationFailure as error:
            if error.code not in _OTHER_INDEX:
                raise
            log.warning("an index of job records is not as it should be: %s", error)
    running = {"state": {"$in": list(RUNNING_STATES)}}
    try:
        return list(collection.find(running).sort("created", 1))
    except NOT_BSON:
        return [_decoded(collection, found["_id"]) for found in collection.find(running, {"_id": 1}).sort("created", 1)]


def _decoded(collection: Collection[dict[str, Any]], job_id: Any) -> dict[str, Any]:
    try:
        return collection.find_one({"_id": job_id}) or {"_id": job_id}
    except NOT_BSON:
        return {"_id": job_id}


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
        change: dict[str, Any] = {"$set": changed}
        if fields.get("state") in END_STATES:
            change["$unset"] = {"plan": ""}  # nobody goes by it any more, and the result may need its room
        collection.with_options(write_concern=concern).update_one(
            {"_id": job_id, "state": {"$nin": list(END_STATES)}}, change
        )

    return operation


def end(job_id: str, fields: dict[str, Any], *, durable: bool) -> Operation:
    """Set the fields of a job that has ended; gives None, or the error that is recorded instead.

    What MongoDB will never take, because it is too big or too deep, is not tried again: the job ends in that error.
    """

    def operation(collection: Collection[dict[str, Any]]) -> MapReduceError | None:
        try:
            update(job_id, fields, durable=durable)(collection)
        except Exception as error:
            known = as_engine_error(error)
            if known is None or known.retryable or may_have_moved(error):
                raise
            known = ResultTooBigError(
                f"the job ended in state {fields['state']}, and what it tells cannot be recorded: {known.message}"
            )
        else:
            return None
        log.warning("job %s: %s", job_id, known.message)
        bare = {"state": ERROR, "error": known.to_document(), "traceback": None, "progress": {}, "result": None}
        update(job_id, bare, durable=durable)(collection)
        return known

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
            if owner and collection.count_documents({"_id": owner, "state": {"$in": list(END_STATES)}}):
                target.drop_collection(name)
                log.info("unpublished results dropped: %s", name)

    return operation


def live(document: dict[str, Any]) -> Operation:
    """Say how the router stands: see `mapreduce.router.status_report`."""
    return lambda collection: _note(collection, {"$set": document, "$currentDate": {"seen": True}})
