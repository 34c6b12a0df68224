"""Refusals as they are journalled and kept in quarantine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

MAX_RAW_BYTES = 2**20  # of longer input only the first bytes and a hash are kept
KEPT_BYTES = 4096  # number of those first bytes


class RefusedValueError(ValueError):
    """A value for which its event is refused; `args` are code and message."""


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
