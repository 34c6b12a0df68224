"""Create the ingester's MongoDB clients, and replace them if the server has moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pymongo
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from ingest.wire.codec import CLIENT_OPTIONS

DURABLE = WriteConcern("majority", j=True)
MAJORITY = ReadConcern("majority")
SELECTION_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 30.0
CLOSE_WITHIN_S = 1.0  # sessions that a server which hangs does not end by then, it ends itself

Document = dict[str, Any]


class Connection:
    """A client of the server that `address` currently names. Thread-safe; connects on first use.

    A local mongod can come back on another port: call `renew` after an error that a lost server would explain.
    """

    def __init__(
        self, address: Callable[[], str] | str, database: str, *, selection_timeout_s: float = SELECTION_TIMEOUT_S
    ) -> None:
        self._address = address if callable(address) else lambda: address
        self._database = database
        self._selection_timeout_s = selection_timeout_s
        self._guard = threading.Lock()
        self._client: MongoClient[Document] | None = None
        self._connected_to = ""

    def client(self) -> MongoClient[Document]:
        """Return the client. Raise what `address` raises if no server is known."""
        with self._guard:
            if self._client is None:
                self._connected_to = self._address()
                self._client = MongoClient(
                    self._connected_to,
                    **CLIENT_OPTIONS,
                    serverSelectionTimeoutMS=int(self._selection_timeout_s * 1000),
                    socketTimeoutMS=int(SOCKET_TIMEOUT_S * 1000),
                )
            return self._client

    def database(self) -> Database[Document]:
        """Return the database, with durable writes and reads from the primary even if the address says otherwise."""
        return self.client().get_database(
            self._database, write_concern=DURABLE, read_preference=ReadPreference.PRIMARY, read_concern=MAJORITY
        )

    def renew(self, *, force: bool = False) -> None:
        """Close the client if the address has changed, or always with `force`, so that the next use connects again."""
        with self._guard:
            if self._client is not None and (force or self._address() != self._connected_to):
                with pymongo.timeout(CLOSE_WITHIN_S):
                    self._client.close()
                self._client = None

    def close(self) -> None:
        """Close the client. A later use connects again."""
        self.renew(force=True)


def is_unconfirmed(error: Exception) -> bool:
    """Return whether `error` is the driver's own failure to report that a write was not confirmed.

    While a server stops, it answers findAndModify with a write concern error. pymongo (up to 4.20.1) reads that answer
    as a `RawBSONDocument` if the client has a type registry, and fails to add the error's labels to it.
    """
    return isinstance(error, AttributeError) and "'RawBSONDocument' object" in str(error)
