"""Job records in MongoDB, from which a restarted router resumes jobs and from which ended jobs are looked up.

One thread runs all reads and writes in the order of the requests. Results are handed back to the router's thread.
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

from mapreduce.codec import CODEC, ENCODING, NOT_BSON
from mapreduce.exceptions import MapReduceError, ResultTooBigError, StoreUnavailableError
from mapreduce.job.spec import END_STATES, ERROR, RUNNING_STATES
from mapreduce.job.spec_check import REPLACEMENTS
from mapreduce.step.replacement import replacement_owner
from mapreduce.store_error import as_engine_error, may_have_moved
from mapreduce.store_identity import make_identity
from mapreduce.task_error import described

COLLECTION = "zmr.job"
ROUTER_COLLECTION = "zmr.router"
ROUTER_ID = "router"  # one document: the router that wrote last
KEPT_S = 14 * 24 * 3600  # records of ended jobs are deleted after this
SERVER_TIMEOUT_MS = 5_000
SOCKET_TIMEOUT_MS = 30_000  # a server that has not answered for this long counts as unavailable
_RETRY_S = 0.5
_INDEXES: tuple[tuple[list[tuple[str, int]], dict[str, Any]], ...] = (
    ([("ended", ASCENDING)], {"expireAfterSeconds": KEPT_S}),
    ([("created", DESCENDING)], {}),
    ([("state", ASCENDING), ("created", DESCENDING)], {}),
)
_OTHER_INDEX = {85, 86}  # MongoDB's codes for an index that exists with other options

log = logging.getLogger(__name__)

Found = Callable[[Any], None]
Standing = Callable[["MapReduceError | None"], None]
Operation = Callable[[Collection[dict[str, Any]]], Any]


class JobStore:
    """Run operations on `zmr.job` one after the other in a separate thread.

    Temporary failures are retried if the caller insists; all others are results. `deliver` passes each operation's
    result, or a `MapReduceError`, to its `found`; `wake` is called in the store's thread if there is something to
    deliver. While MongoDB is unavailable the store keeps probing it, and operations without `insist` soon get the
    reason as their result.

    `deliver` also calls `standing`: with each new reason why MongoDB is unavailable, and with None when it is back.
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
        self._away: MapReduceError | None = None  # last value passed to `standing`; used by the store's thread only
        self._asked: queue.SimpleQueue[tuple[Operation, Found | None, bool] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Found, Any]] = queue.SimpleQueue()
        self._later: deque[tuple[Operation, Found | None, bool] | None] = deque()  # used by the store's thread only
        self._stopping = threading.Event()
        self._client: MongoClient[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="zmr-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Finish queued operations, unless MongoDB is unavailable, and end the thread; wait at most `timeout_s`."""
        self._stopping.set()
        self._asked.put(None)
        self._thread.join(timeout_s)

    def ask(self, operation: Operation, found: Found | None = None, *, insist: bool = False) -> None:
        """Queue an operation; with `insist` it is retried as long as failures are temporary."""
        self._asked.put((operation, found, insist))

    def deliver(self) -> None:
        """Call `found` for every available result, in the calling thread."""
        while True:
            try:
                found, answer = self._answers.get_nowait()
            except queue.Empty:
                return
            try:
                found(answer)
            except Exception:
                log.exception("handling a result of the job store failed")

    def _run(self) -> None:
        while (asked := self._next()) is not None:
            operation, found, insist = asked
            try:
                self._queue_answer(found, self._execute(operation, insist))
                if self._away is not None:
                    self._answer_pending(self._away)
            except Exception:
                log.exception("an operation on job records failed, the next one follows")
        self._disconnect()

    def _next(self) -> tuple[Operation, Found | None, bool] | None:
        """Return the next operation, or a probe of MongoDB while that is unavailable; None to end the thread."""
        if self._later:
            return self._later.popleft()
        try:
            return self._asked.get(timeout=None if self._away is None else _RETRY_S)
        except queue.Empty:
            return _probe, None, False

    def _queue_answer(self, found: Found | None, answer: Any) -> None:
        if found is not None and not self._stopping.is_set():  # results are no longer delivered after `stop`
            self._answers.put((found, answer))
            self._wake()

    def _execute(self, operation: Operation, insist: bool) -> Any:
        """Return the operation's result, or the error; with `insist`, retry temporary failures."""
        while True:
            try:
                answer = operation(self._collection())
            except Exception as error:
                known = as_engine_error(error)
                if known is None:
                    log.exception("operation on job records failed")
                    return MapReduceError(f"job records: {described(error)}")
                moved = may_have_moved(error) or known.retryable
            else:
                self._set_away(None)
                return answer
            known = type(known)(f"job records cannot be read or written: {known.message}")
            if not moved:
                return known
            self._disconnect()  # the server may restart at another address, or with another login
            self._set_away(known)
            if not insist or self._stopping.is_set():
                return known
            self._pause(known)

    def _set_away(self, away: MapReduceError | None) -> None:
        """Report to `standing` if the reason has changed why MongoDB is unavailable (None = it is available)."""
        before, self._away = self._away, away
        if (before and before.message) != (away and away.message):
            self._queue_answer(self._standing, away)

    def _pause(self, why: MapReduceError) -> None:
        """Wait before the next attempt; meanwhile answer operations without `insist` with `why`."""
        end = time.monotonic() + _RETRY_S
        while not self._stopping.is_set() and (left := end - time.monotonic()) > 0:
            self._answer_pending(why, left)

    def _answer_pending(self, why: MapReduceError, wait_s: float = 0.0) -> None:
        """Answer operations queued by now, or within `wait_s`, with `why`; keep those with `insist` for later."""
        with contextlib.suppress(queue.Empty):
            while True:
                asked = self._asked.get(timeout=wait_s) if wait_s else self._asked.get_nowait()
                wait_s = 0.0
                if asked is None or asked[2]:
                    self._later.append(asked)
                else:
                    self._queue_answer(asked[1], why)

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


def _probe(collection: Collection[dict[str, Any]]) -> None:
    """Raise what a write to `collection` would raise; as a side effect, record that the router is alive."""
    _update_status(collection, {"$currentDate": {"seen": True}})


def _update_status(collection: Collection[dict[str, Any]], update: dict[str, Any]) -> None:
    """Update the router's status document; not durable, because losing the last update does no harm."""
    target = collection.database.get_collection(ROUTER_COLLECTION, write_concern=WriteConcern(w=1))
    target.update_one({"_id": ROUTER_ID}, update, upsert=True)


def identity(collection: Collection[dict[str, Any]]) -> dict[str, str]:
    """Return the identity of the database, which workers compare with that of theirs; see `make_identity`."""
    return make_identity(collection.database)


def prepare(collection: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Create the indexes and return the records of running jobs, oldest first.

    A record that cannot be decoded is returned with its id only.
    """
    for keys, options in _INDEXES:
        try:
            collection.create_index(keys, **options)
        except OperationFailure as error:
            if error.code not in _OTHER_INDEX:
                raise
            log.warning("index of job records has other options than expected error=%s", error)
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
    """Return an operation that inserts `record`; its result is None, or the present record with the same id."""

    def operation(collection: Collection[dict[str, Any]]) -> dict[str, Any] | None:
        concern = WriteConcern(w="majority", j=True) if durable else WriteConcern(w=1)
        records = collection.with_options(codec_options=ENCODING, write_concern=concern)
        try:
            records.insert_one(record)
        except DuplicateKeyError:
            return collection.find_one({"_id": record["_id"]})
        return None

    return operation


def update(job_id: str, fields: dict[str, Any], *, durable: bool) -> Operation:
    """Return an operation that sets fields of a record, unless its job has ended."""

    def operation(collection: Collection[dict[str, Any]]) -> None:
        concern = WriteConcern(w="majority", j=True) if durable else WriteConcern(w=1)
        now = datetime.datetime.now(datetime.UTC)
        change: dict[str, Any] = {"$set": {**fields, "updated": now}}
        if fields.get("state") in END_STATES:
            change["$set"]["ended"] = now
            change["$unset"] = {"plan": ""}  # no longer needed, and the result may need the space
        collection.with_options(codec_options=ENCODING, write_concern=concern).update_one(
            {"_id": job_id, "state": {"$nin": list(END_STATES)}}, change
        )

    return operation


def end(job_id: str, fields: dict[str, Any], *, durable: bool) -> Operation:
    """Return an operation that records the end of a job; its result is None, or the error recorded instead.

    If MongoDB can never store the fields, because they are too big or too deep, the job ends in that error.
    """

    def operation(collection: Collection[dict[str, Any]]) -> MapReduceError | None:
        try:
            update(job_id, fields, durable=durable)(collection)
        except Exception as error:
            known = as_engine_error(error)
            if known is None or known.retryable or may_have_moved(error):
                raise
            known = ResultTooBigError(
                f"the job ended in state {fields['state']}, but its result cannot be recorded: {known.message}"
            )
        else:
            return None
        log.warning("end of job recorded without its result job=%s error=%s", job_id, known.message)
        bare = {"state": ERROR, "error": known.to_document(), "traceback": None, "progress": {}, "result": None}
        update(job_id, bare, durable=durable)(collection)
        return known

    return operation


def find(job_id: str) -> Operation:
    """Return an operation whose result is the record of a job, or None."""
    return lambda collection: collection.find_one({"_id": job_id}, {"plan": 0})


def recent(count: int) -> Operation:
    """Return an operation whose result is the `count` newest records, newest first."""
    return lambda collection: list(collection.find({}, {"plan": 0}).sort("created", DESCENDING).limit(count))


def drop_leftovers(database: str) -> Operation:
    """Return an operation that drops unpublished results in `database` of jobs whose record says that they ended."""

    def operation(collection: Collection[dict[str, Any]]) -> None:
        target = collection.database.client.get_database(database)
        for name in target.list_collection_names(filter={"name": {"$regex": f"^{re.escape(REPLACEMENTS)}"}}):
            owner = replacement_owner(name)
            if owner and collection.count_documents({"_id": owner, "state": {"$in": list(END_STATES)}}):
                target.drop_collection(name)
                log.info("unpublished results dropped collection=%s", name)

    return operation


def live(document: dict[str, Any]) -> Operation:
    """Return an operation that writes the router's status, as made by `StatusReport`."""
    return lambda collection: _update_status(collection, {"$set": document, "$currentDate": {"seen": True}})
