"""Celery's MongoDB transport with short waits, so that a worker told to stop does so within a second."""

from __future__ import annotations

from typing import Any

from kombu import transport
from kombu.transport import mongodb

LONGEST_WAIT_S = 0.4  # Celery's loop waits 2 s for a message, twice, before it looks whether it has to stop


class Transport(mongodb.Transport):
    """kombu's transport for `mongodb://`; only the wait for the next message is bounded."""

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Deliver the next message. Raises `TimeoutError` when none came within a moment."""
        wait_s = None if timeout is None else min(timeout, LONGEST_WAIT_S)
        return super().drain_events(connection, timeout=wait_s, **kwargs)  # type: ignore[no-untyped-call]


def install() -> None:
    """Make kombu use this transport for `mongodb://`."""
    transport.TRANSPORT_ALIASES["mongodb"] = f"{__name__}:Transport"
