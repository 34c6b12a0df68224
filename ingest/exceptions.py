"""The errors of this package. Each has a stable `code`, says whether a retry can help, and pickles."""

from __future__ import annotations

from typing import Any


class IngestError(Exception):
    """Base class of this package's errors; the message is one line for a person and says what to do."""

    code = "ingest_error"
    retryable = False

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.data = data

    def to_document(self) -> dict[str, Any]:
        """Return the form that is sent over a wire: `code`, `message` and the data."""
        return {"code": self.code, "message": str(self), **self.data}


class BindError(IngestError, code="cannot_bind"):
    """A socket's address is in use or cannot be bound."""


class IngesterFailedError(IngestError, code="ingester_failed", retryable=True):
    """A part of the ingester failed; the process ends so that its supervisor restarts it."""


class BrokerFailedError(IngestError, code="broker_failed", retryable=True):
    """The metrics broker forwards no more; the process ends so that its supervisor restarts it."""


class JournalError(IngestError, code="journal_error", retryable=True):
    """A journal cannot be written or read; acknowledged events are not affected."""


class JournalFullError(JournalError, code="journal_full"):
    """The journal has reached `journal_max_bytes`, or its disk is full; committing blocks frees space."""


class JournalLockedError(JournalError, code="journal_locked"):
    """Another process holds the journal."""


class StoreChangedError(IngestError, code="store_changed"):
    """The database is not the one that a journal or a position belongs to: it was emptied, restored or replaced."""


class StoreUnpreparedError(IngestError, code="store_unprepared"):
    """The database has no event store yet."""


class StaleBlockError(IngestError, code="stale_block"):
    """A block's number was already used and is settled; the block needs a new one."""


class EventTooLargeError(IngestError, code="event_too_big"):
    """An event exceeds the size limit of a message; nothing from the call was sent."""


class LoadError(IngestError, code="cannot_load"):
    """A file that cannot be read, or an option that does not fit it."""


class BodyError(IngestError, code="bad_request"):
    """The body of an HTTP request holds no events."""


class DeliveryError(IngestError, code="not_acknowledged", retryable=True):
    """An acknowledged send was not answered in time; the events may have arrived, and can safely be sent again."""


class BusyError(DeliveryError, code="busy"):
    """The ingester answers but its journal is full; nothing from the request was accepted."""


class QueueFullError(DeliveryError, code="queue_full"):
    """The client's own queue is full because no ingester accepts its events; the event was not queued."""


class SpoolError(DeliveryError, code="spool_failed"):
    """The client's spool cannot be used; undelivered events were not kept."""


class SpoolFullError(SpoolError, code="spool_full"):
    """The client's spool has reached its size limit; undelivered events were not kept."""


class KeyFileError(IngestError, code="bad_keys"):
    """A CURVE key file cannot be used."""
