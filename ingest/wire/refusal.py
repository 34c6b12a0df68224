"""Refusals as they are journalled and kept in quarantine, and their codes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

MAX_RAW_BYTES = 2**20  # of longer input only the first bytes and a hash are kept
KEPT_BYTES = 4096  # number of those first bytes

CODES = {
    "bad_bson": "the bytes are not BSON",
    "truncated_message": "the message ends inside a document",
    "oversized_message": "the message is larger than 16 MiB",
    "bad_json": "the text is not JSON in UTF-8",
    "not_a_document": "the JSON value is not an object",
    "event_too_big": "the event is larger than 1 MiB of BSON",
    "missing_type": "the event has no type",
    "bad_type": "type is not text of 1 to 256 characters",
    "bad_context": "context is not a document",
    "bad_timestamp": "timestamp is not a date",
    "bad_id": "id is not text of 1 to 256 characters",
    "unknown_field": "the event has a top-level field that events do not have",
    "date_out_of_range": "a date is outside the years 1 to 9999",
    "nested_too_deep": "documents or arrays are nested deeper than 100",
    "unknown_command": "$command is not one that this socket knows",
    "repeated_field": "the event has two top-level fields of one name",
    "reader_failed": "the ingester itself failed on the input; its log has the traceback",
    "refused_by_store": "MongoDB refused the document",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One piece of input that is not a valid event. `index` is its place in the message, `raw` its original bytes."""

    code: str
    message: str
    raw: bytes
    index: int = 0

    def to_document(self, source: str, time: Any) -> dict[str, Any]:
        """Return the quarantine document, without `_id`. Of raw input above 1 MiB it has a hash and the first bytes."""
        document: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "source": source,
            "time": time,
            "bytes": len(self.raw),
        }
        if len(self.raw) <= MAX_RAW_BYTES:
            return document | {"raw": self.raw}
        return document | {"sha256": hashlib.sha256(self.raw).hexdigest(), "raw_start": self.raw[:KEPT_BYTES]}

    def to_wire(self) -> dict[str, Any]:
        """Return the form in which the refusal is sent to the producer."""
        return {"index": self.index, "code": self.code, "message": self.message}
