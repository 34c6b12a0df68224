"""Refusals as they are journalled and kept in quarantine."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .bson_element import is_framed

MAX_RAW_BYTES = 2**20  # of longer input only the first bytes and a hash are kept
KEPT_BYTES = 4096  # number of those first bytes
TOO_MANY_DOCUMENTS = "too_many_documents"
MAX_INDEXES = 5_000  # listed of a joined refusal: requests of our own client have no more events
SINGLE_COUNT = 20  # so many refusals of one message with the same code are kept one by one


class RefusedValueError(ValueError):
    """A value for which its event is refused; `args` are code and message."""


class TooManyDocumentsError(RefusedValueError):
    """A message has more documents or lines than a message may have."""

    def __init__(self, most: int, what: str = "documents") -> None:
        super().__init__(TOO_MANY_DOCUMENTS, f"the message has more than {most} {what}: send fewer in each message")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Input that is not a valid event: one document of a message, or several that were refused alike.

    Of several, code, message and `index` are those of the first one.
    """

    code: str
    message: str
    raw: bytes  # the original bytes; of several BSON documents one after the other, of several texts on lines
    index: int = 0  # of the (first) document in its message
    count: int = 1  # of documents
    indexes: tuple[int, ...] = ()  # of all documents, if there are several and at most `MAX_INDEXES`

    def to_document(self, source: str, time: Any) -> dict[str, Any]:
        """Return the quarantine document, without `_id`. Of raw input above 1 MiB it has a hash and the first bytes.

        It has a `count` if it stands for several documents.
        """
        document: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "source": source,
            "time": time,
            "bytes": len(self.raw),
        } | self._count()
        if len(self.raw) <= MAX_RAW_BYTES:
            return document | {"raw": self.raw}
        return document | {"sha256": hashlib.sha256(self.raw).hexdigest(), "raw_start": self.raw[:KEPT_BYTES]}

    def to_wire(self) -> dict[str, Any]:
        """Return the form in which the refusal is sent to the producer; with `count` and `indexes` if it is joined."""
        indexes = {"indexes": list(self.indexes)} if self.indexes else {}
        return {"index": self.index, "code": self.code, "message": self.message} | self._count() | indexes

    def _count(self) -> dict[str, Any]:
        return {"count": self.count} if self.count > 1 else {}


def document_count(refusals: Iterable[Refusal]) -> int:
    """Return how many documents were refused."""
    return sum(refusal.count for refusal in refusals)


def gathered(refusals: Iterable[Refusal]) -> list[Refusal]:
    """Return the refusals of one message, in which those after the first `SINGLE_COUNT` of a code are joined.

    So they take little more space than the message, whatever it holds. All bytes are kept: a joined refusal has at most
    `MAX_RAW_BYTES`, and there is another one for what is left. Ordered by `index`.
    """
    found: list[Refusal] = []
    seen: Counter[tuple[str, bool]] = Counter()
    runs: dict[tuple[str, bool], list[Refusal]] = {}
    sizes: Counter[tuple[str, bool]] = Counter()
    for each in refusals:
        key = each.code, is_framed(each.raw)
        seen[key] += 1
        size = len(each.raw) + 1
        if seen[key] <= SINGLE_COUNT or size > MAX_RAW_BYTES:
            found.append(each)
            continue
        if sizes[key] + size > MAX_RAW_BYTES:
            found.append(_joined(runs.pop(key)))
            sizes[key] = 0
        runs.setdefault(key, []).append(each)
        sizes[key] += size
    found += map(_joined, runs.values())
    return sorted(found, key=lambda refusal: refusal.index)


def _joined(run: Sequence[Refusal]) -> Refusal:
    between = b"" if is_framed(run[0].raw) else b"\n"
    count = document_count(run)
    indexes = tuple(each.index for each in run) if 1 < count == len(run) <= MAX_INDEXES else ()
    return replace(run[0], raw=between.join(each.raw for each in run), count=count, indexes=indexes)
