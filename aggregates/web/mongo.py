"""Connect the web process to MongoDB, and translate the driver's errors into errors for clients."""

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
from ingest.wire.codec import CLIENT_OPTIONS

QUERY_LIMIT_MS = 5_000  # time limit in MongoDB for a client's query
_BAD_VALUE_CODES = frozenset({2, 9, 14, 73})  # BadValue, FailedToParse, TypeMismatch, InvalidNamespace

_lock = threading.Lock()
_clients: dict[str, MongoClient[dict[str, Any]]] = {}


def database() -> Database[dict[str, Any]]:
    """Return the configured database; dates are timezone-aware. Raise `UnavailableError` if no address is known.

    Other programs can store text that is not UTF-8: its bytes are read as `\\xff`, for example, so that texts with
    different ones stay different. This is for answers: never write back what was read here.
    """
    opened = client()
    options = opened.codec_options.with_options(unicode_decode_error_handler="backslashreplace")
    return opened.get_database(settings.ZARKOV.mongo_database, codec_options=options)


def client() -> MongoClient[dict[str, Any]]:
    """Return the client behind `database()`, which reads strictly.

    There is one per process, opened at the first call after a fork, and again if a local mongod has moved to another
    port. Raise `UnavailableError` if no address is known.
    """
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
                address,
                appname="zarkov-web",
                **CLIENT_OPTIONS,
                serverSelectionTimeoutMS=3000,
                connectTimeoutMS=3000,
            )
        return _clients[address]


class _WebConnection(Connection):
    """Adapt the web's client to the ingest package."""

    def client(self) -> MongoClient[dict[str, Any]]:
        return client()


def store() -> Store:
    """Return the event store, on the same client. Its first use raises `UnavailableError` if no address is known."""
    return Store(_WebConnection("", settings.ZARKOV.mongo_database))


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the driver's errors in the block as `WebError`."""
    try:
        yield
    except PyMongoError as error:
        raise to_web_error(error) from error


def to_web_error(error: PyMongoError) -> WebError:
    """Return the `WebError` for a driver error: `BadRequestError` if the query is too slow or malformed."""
    if isinstance(error, ExecutionTimeout):
        return BadRequestError(f"the query took longer than {QUERY_LIMIT_MS} ms: narrow the filter or the range")
    if isinstance(error, OperationFailure) and error.code in _BAD_VALUE_CODES:
        return BadRequestError(f"MongoDB rejects the query: {error.details.get('errmsg', '') if error.details else ''}")
    return UnavailableError("MongoDB does not answer: try again later")


def close() -> None:
    """Close this process's client; the next use opens another. For tests, and at process exit."""
    with _lock:
        for opened in _clients.values():
            opened.close()
        _clients.clear()
