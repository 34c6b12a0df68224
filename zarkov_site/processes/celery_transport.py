"""Shorten the waits of Celery's MongoDB transport, so that a worker stops within a second."""

from __future__ import annotations

from typing import Any

from kombu import transport
from kombu.transport import mongodb

MAX_WAIT_S = 0.4  # Celery's loop would wait 2 s for a message, twice, before it checks whether to stop


class Transport(mongodb.Transport):
    """kombu's transport for `mongodb://`, with a bounded wait for the next message."""

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Deliver the next message. Raise `TimeoutError` if none arrives within `MAX_WAIT_S`."""
        wait_s = None if timeout is None else min(timeout, MAX_WAIT_S)
        return super().drain_events(connection, timeout=wait_s, **kwargs)  # type: ignore[no-untyped-call]


def install() -> None:
    """Make kombu use this transport for `mongodb://`."""
    transport.TRANSPORT_ALIASES["mongodb"] = f"{__name__}:Transport"
