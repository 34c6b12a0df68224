"""The web process's own connection to MongoDB, and how its failures look to who asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError

from aggregates.web.exceptions import BadRequestError, UnavailableError, WebError
from ingest.store.connection import Connection
from ingest.store.store import Store

QUERY_LIMIT_MS = 5_000  # a question from outside may keep MongoDB busy for so long
_BAD_VALUE_CODES = frozenset({2, 9, 14, 73})  # BadValue, FailedToParse, TypeMismatch, InvalidNamespace

_lock = threading.Lock()
_clients: dict[str, MongoClient[dict[str, Any]]] = {}


def database() -> Database[dict[str, Any]]:
    """The database of the configuration; dates come out timezone-aware.

    One client per process and address, made at the first call after a fork. A local mongod that moved to another port
    is followed. Raises `UnavailableError` when no address is known.
    """
    return client()[settings.ZARKOV.mongo_database]


def client() -> MongoClient[dict[str, Any]]:
    """The client behind `database()`."""
    try:
        address = settings.ZARKOV.mongo_address()
    except Exception as error:
        if getattr(error, "code", None) is None:
            raise
        raise UnavailableError(str(error)) from None
    with _lock:
        if address not in _clients:
            for old in _clients.values():
                old.close()
            _clients.clear()
            _clients[address] = MongoClient(
                address, tz_aware=True, appname="zarkov-web", serverSelectionTimeoutMS=3000, connectTimeoutMS=3000
            )
        return _clients[address]


class _WebConnection(Connection):
    """The ingest package's view of the web's own client."""

    def client(self) -> MongoClient[dict[str, Any]]:
        return client()


def store() -> Store:
    """The event store, over the same client. Raises `UnavailableError` at its first use when no address is known."""
    return Store(_WebConnection("", settings.ZARKOV.mongo_database))


@contextmanager
def answering() -> Iterator[None]:
    """Turn the driver's errors into those of the web: too slow and ill-formed questions are the asker's."""
    try:
        yield
    except PyMongoError as error:
        raise translate(error) from error


def translate(error: PyMongoError) -> WebError:
    """The web's error for one of the driver's."""
    if isinstance(error, ExecutionTimeout):
        return BadRequestError(f"the query took longer than {QUERY_LIMIT_MS} ms: narrow the filter or the range")
    if isinstance(error, OperationFailure) and error.code in _BAD_VALUE_CODES:
        return BadRequestError(f"MongoDB refuses the query: {error.details.get('errmsg', '') if error.details else ''}")
    return UnavailableError("MongoDB does not answer; try again later")


def close() -> None:
    """Close this process's client; the next use opens another. For tests, and for the end of a process."""
    with _lock:
        for opened in _clients.values():
            opened.close()
        _clients.clear()
