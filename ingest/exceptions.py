"""The errors of this package. Each has a stable `code`, says whether a retry can help, and pickles."""

from __future__ import annotations

from typing import Any


class IngestError(Exception):
    """Base class of this package's errors; the message is one line for a person and says what to do."""

    code = "ingest_error"
    retryable = False

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.data)

    def to_document(self) -> dict[str, Any]:
        """Return the form that is sent over a wire: `code`, `message` and the data."""
        return {"code": self.code, "message": str(self), **self.data}


def _rebuild(cls: type[IngestError], message: str, data: dict[str, Any]) -> IngestError:
    return cls(message, **data)


class BindError(IngestError):
    """A socket's address is in use or cannot be bound."""

    code = "cannot_bind"


class IngesterFailedError(IngestError):
    """A part of the ingester failed; the process ends so that its supervisor restarts it."""

    code = "ingester_failed"
    retryable = True


class JournalError(IngestError):
    """A journal cannot be written or read; acknowledged events are not affected."""

    code = "journal_error"
    retryable = True


class JournalFullError(JournalError):
    """The journal has reached `journal_max_bytes`, or its disk is full; committing blocks frees space."""

    code = "journal_full"


class JournalLockedError(JournalError):
    """Another process holds the journal."""

    code = "journal_locked"


class StoreChangedError(IngestError):
    """The database is not the one that a journal or a position belongs to: it was emptied, restored or replaced."""

    code = "store_changed"


class StoreUnpreparedError(IngestError):
    """The database has no event store yet."""

    code = "store_unprepared"


class StaleBlockError(IngestError):
    """A block's number was already used and is settled; the block needs a new one."""

    code = "stale_block"


class EventTooLargeError(IngestError):
    """An event exceeds the size limit of a message; nothing from the call was sent."""

    code = "event_too_big"


class BodyError(IngestError):
    """The body of an HTTP request holds no events, or too many."""

    code = "bad_request"


class DeliveryError(IngestError):
    """An acknowledged send was not answered in time; the events may have arrived, and can safely be sent again."""

    code = "not_acknowledged"
    retryable = True


class BusyError(DeliveryError):
    """The ingester answers but its journal is full; nothing from the request was accepted."""

    code = "busy"


class QueueFullError(DeliveryError):
    """The client's own queue is full because no ingester accepts its events; the event was not queued."""

    code = "queue_full"


class SpoolError(DeliveryError):
    """The client's spool cannot be used; undelivered events were not kept."""

    code = "spool_failed"


class SpoolFullError(SpoolError):
    """The client's spool has reached its size limit; undelivered events were not kept."""

    code = "spool_full"


class KeyFileError(IngestError):
    """A CURVE key file cannot be used."""

    code = "bad_keys"
