"""Adapt Celery's MongoDB transport: a worker stops within a second, and several can start at once."""

from __future__ import annotations

from typing import Any

from kombu import transport
from kombu.transport import mongodb
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

NAMESPACE_EXISTS = 48  # error code of MongoDB
MAX_WAIT_S = 0.4  # Celery's loop would wait 2 s for a message, twice, before it checks whether to stop


class Channel(mongodb.Channel):
    """kombu's channel, whose collection another process may have just created."""

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


def install() -> None:
    """Make kombu use this transport for `mongodb://`."""
    transport.TRANSPORT_ALIASES["mongodb"] = f"{__name__}:Transport"
