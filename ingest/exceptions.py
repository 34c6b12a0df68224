"""The errors of this package. Each has a stable `code`, says whether trying again can help, and pickles."""

from __future__ import annotations

from typing import Any


class IngestError(Exception):
    """Base of every error raised here; its text is one line for a person and says what to do."""

    code = "ingest_error"
    retryable = False

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.data)

    def to_document(self) -> dict[str, Any]:
        """What crosses a wire."""
        return {"code": self.code, "message": str(self), **self.data}


def _rebuild(cls: type[IngestError], message: str, data: dict[str, Any]) -> IngestError:
    return cls(message, **data)


class BindError(IngestError):
    """A socket's address is taken or cannot be bound."""

    code = "cannot_bind"


class PartFailedError(IngestError):
    """A part of the ingester ended by a fault of its own; the process ends, so that whoever watches it restarts it."""

    code = "part_failed"
    retryable = True


class JournalError(IngestError):
    """A journal cannot be written or read; nothing that was acknowledged is touched."""

    code = "journal_error"
    retryable = True


class JournalFullError(JournalError):
    """The journal has reached `journal_max_bytes`, or its disk is full; room comes as blocks are committed."""

    code = "journal_full"


class JournalLockedError(JournalError):
    """Another process holds the journal."""

    code = "journal_locked"


class StoreChangedError(IngestError):
    """The database is not the one that a journal or a position belongs to: emptied, restored or another one."""

    code = "store_changed"


class StoreUnpreparedError(IngestError):
    """The database has no event store yet."""

    code = "store_unprepared"


class StaleBlockError(IngestError):
    """A block's number was reserved before and is settled; the block must take a new one."""

    code = "stale_block"


class EventTooLargeError(IngestError):
    """An event is larger than any message that an ingester takes; nothing of the call was sent."""

    code = "event_too_big"


class BodyError(IngestError):
    """The body of an HTTP request holds no events, or too many."""

    code = "bad_request"


class DeliveryError(IngestError):
    """An acknowledged send was not answered in time; the events may or may not have arrived, and may be sent again."""

    code = "not_acknowledged"
    retryable = True


class BusyError(DeliveryError):
    """The ingester is there and its journal is full; nothing of the request was taken."""

    code = "busy"


class QueueFullError(DeliveryError):
    """The client's own queue is full because nobody takes the events; the event was not taken."""

    code = "queue_full"


class SpoolError(DeliveryError):
    """The client's spool cannot be used; events that could not be delivered were not kept."""

    code = "spool_failed"


class SpoolFullError(SpoolError):
    """The client's spool has reached its size; events that could not be delivered were not kept."""

    code = "spool_full"


class KeyFileError(IngestError):
    """A file of CURVE keys cannot be used."""

    code = "bad_keys"
