"""Adapt Celery's MongoDB transport: current address, stop within a second, simultaneous starts, no client left open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu import transport
from kombu.transport import mongodb
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

NAMESPACE_EXISTS = 48  # error code of MongoDB
MAX_WAIT_S = 0.4  # Celery's loop would wait 2 s for a message, twice, before it checks whether to stop

_current_url: Callable[[], str] | None = None


class Channel(mongodb.Channel):
    """kombu's channel, at the current address, in collections that another process may have just created."""

    def _create_client(self) -> Database[Any]:
        """Connect and prepare the collections. Close the client again if the server does not do so."""
        database = self._open()
        try:
            self._create_broadcast(database)
            self._ensure_indexes(database)  # type: ignore[no-untyped-call]
        except BaseException:
            database.client.close()
            raise
        return database

    def _open(self, scheme: str = "mongodb://") -> Database[Any]:
        if _current_url is not None:  # in the form that kombu keeps
            self.connection.client.hostname = _current_url().removeprefix("mongodb+")
        address, database, options = self._parse_uri(scheme=scheme)  # type: ignore[no-untyped-call]
        return MongoClient(address, **options)[database]

    def _create_broadcast(self, database: Database[Any]) -> None:
        try:
            super()._create_broadcast(database)  # type: ignore[no-untyped-call]
        except CollectionInvalid:
            pass
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise


class Transport(mongodb.Transport):
    """kombu's transport for `mongodb://`, with a bounded wait for the next message."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Deliver the next message. Raise `TimeoutError` if none arrives within `MAX_WAIT_S`."""
        wait_s = None if timeout is None else min(timeout, MAX_WAIT_S)
        return super().drain_events(connection, timeout=wait_s, **kwargs)  # type: ignore[no-untyped-call]


def install(current_url: Callable[[], str] | None = None) -> None:
    """Make kombu use this transport for `mongodb://`, at the address that `current_url` returns, if it is given.

    It is asked at each connection, since a local mongod can change its port.
    """
    global _current_url
    _current_url = current_url
    transport.TRANSPORT_ALIASES["mongodb"] = f"{__name__}:Transport"
