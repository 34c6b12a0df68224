"""Refusals as they are journalled and kept in quarantine."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .bson_element import is_framed, split
from .json_lines import is_blank

MAX_RAW_BYTES = 2**20  # of longer input only the first bytes and a hash are kept
KEPT_BYTES = 4096  # number of those first bytes
TOO_MANY_DOCUMENTS = "too_many_documents"
MAX_INDEXES = 5_000  # listed of a joined refusal: requests of our own client have no more events
SINGLE_COUNT = 20  # so many refusals of one message with the same code are kept one by one

# How the pieces of a joined refusal are told apart, so that none is ever read with a part of another one.
DOCUMENTS = "documents"  # BSON, one after the other: each begins with its length
LINES = "lines"  # one on each line that is not blank
SIZES = "sizes"  # by their sizes in bytes; one byte follows each of them, which ends a line
CUT = "cut"  # not at all: a stretch of text that begins or ends anywhere
JOINED = frozenset({DOCUMENTS, LINES, SIZES, CUT})


class RefusedValueError(ValueError):
    """A value for which its event is refused; `args` are code and message."""


class TooManyDocumentsError(RefusedValueError):
    """A message has more documents or lines than a message may have.

    `ends` are those of its values as `value_ends` yields them, where they are known.
    """

    def __init__(self, most: int, what: str = "documents", ends: Iterable[int] = ()) -> None:
        self.ends = ends
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
    joined: str = ""  # one of `JOINED` if there are several, or if it is not known how many
    sizes: tuple[int, ...] = ()  # of the pieces in bytes, if they are joined by `SIZES`
    whole: tuple[int, str] | None = None  # size in bytes and SHA-256 of the input if `raw` is only its start
    delivery: str = ""  # what it is known by if its request is sent again; empty if that cannot be told

    def to_document(self, source: str, time: Any) -> dict[str, Any]:
        """Return the quarantine document, without `_id`. Of raw input above 1 MiB it has a hash and the first bytes.

        It has a `count` if it stands for several documents, and the fields of `joining`; and `delivery` if it has one.
        """
        document: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "source": source,
            "time": time,
            "bytes": self.size_bytes,
        } | self._count()
        if self.delivery:
            document["delivery"] = self.delivery
        short = self.shortened()
        if short.whole is None:
            return document | {"raw": self.raw} | self.joining()
        return document | {"sha256": short.whole[1], "raw_start": short.raw}

    @property
    def size_bytes(self) -> int:
        """Return the size of the input."""
        return self.whole[0] if self.whole else len(self.raw)

    def shortened(self) -> Refusal:
        """Return the refusal with what quarantine keeps of its input: the start and a hash if that is above 1 MiB."""
        if self.whole or len(self.raw) <= MAX_RAW_BYTES:
            return self
        return replace(
            self, raw=self.raw[:KEPT_BYTES], whole=(len(self.raw), hashlib.sha256(self.raw).hexdigest()), joined=""
        )

    def to_wire(self) -> dict[str, Any]:
        """Return the form in which the refusal is sent to the producer; with `count` and `indexes` if it is joined."""
        indexes = {"indexes": list(self.indexes)} if self.indexes else {}
        return {"index": self.index, "code": self.code, "message": self.message} | self._count() | indexes

    def joining(self) -> dict[str, Any]:
        """Return the fields by which `pieces_of` tells the pieces apart; none of a single document."""
        sizes = {"sizes": packed(self.sizes)} if self.joined == SIZES else {}
        return ({"joined": self.joined} if self.joined else {}) | sizes

    def _count(self) -> dict[str, Any]:
        return {"count": self.count} if self.count > 1 else {}


def packed(sizes: Iterable[int]) -> bytes:
    """Return sizes up to `MAX_RAW_BYTES` in few bytes: one for each below 128, as UTF-8 has it for characters."""
    return "".join(map(chr, sizes)).encode("utf-8", "surrogatepass")


def unpacked(sizes: bytes) -> tuple[int, ...]:
    """Return the sizes that `packed` wrote. Raise `ValueError` for other bytes."""
    return tuple(map(ord, sizes.decode("utf-8", "surrogatepass")))


def document_count(refusals: Iterable[Refusal]) -> int:
    """Return how many documents were refused."""
    return sum(refusal.count for refusal in refusals)


def stands_for_several(entry: Mapping[str, Any]) -> bool:
    """Return whether a quarantine document, or another with its fields, is or may be of several documents."""
    return int(entry.get("count", 1)) > 1 or "joined" in entry


def pieces_of(entry: Mapping[str, Any]) -> list[bytes] | None:
    """Return each of the refused documents of a quarantine document, byte by byte as it was refused.

    None if they cannot be told apart for certain: of a stretch of text that was cut, of entries made before they kept
    how they are joined, and of those that are longer than what is kept.
    """
    raw, count = entry.get("raw"), entry.get("count", 1)
    if raw is None:
        return None
    if not stands_for_several(entry):
        return [raw]
    found = _told_apart(bytes(raw), entry.get("joined"), entry.get("sizes", b""))
    return found if found is not None and len(found) == count else None


def _told_apart(raw: bytes, joined: Any, sizes: bytes) -> list[bytes] | None:
    if joined == DOCUMENTS:
        documents, end = split(raw)
        return documents if end == len(raw) else None
    if joined == LINES:
        return _filled_lines(raw)
    if joined != SIZES:
        return None
    found, start = [], 0
    try:
        for size in unpacked(sizes):
            found.append(raw[start : start + size])
            start += size + 1
    except ValueError:
        return None
    return found if start - 1 <= len(raw) <= start else None


def joined_values(raw: bytes, sizes: Sequence[int]) -> dict[str, Any]:
    """Return the fields of a `Refusal` for text of whole values, each of which but the last ends with a line.

    `sizes` are theirs in bytes, without that end. Values that have a line each need none.
    """
    if len(sizes) == 1:
        return {}
    if len(_filled_lines(raw)) == len(sizes):
        return {"count": len(sizes), "joined": LINES}
    return {"count": len(sizes), "joined": SIZES, "sizes": tuple(sizes)}


def _filled_lines(raw: bytes) -> list[bytes]:
    return [line for line in raw.splitlines() if not is_blank(line)]


def gathered(refusals: Iterable[Refusal]) -> list[Refusal]:
    """Return the refusals of one message, in which those after the first `SINGLE_COUNT` of a code are joined.

    So they take little more space than the message, whatever it holds. All bytes are kept: a joined refusal has at most
    `MAX_RAW_BYTES`, and there is another one for what is left. Each piece can be had again by `pieces_of`. Ordered by
    `index`.
    """
    found: list[Refusal] = []
    seen: Counter[str] = Counter()
    runs: dict[tuple[str, str], list[Refusal]] = {}
    sizes: Counter[tuple[str, str]] = Counter()
    for each in refusals:
        key = each.code, each.joined or _way_to_join(each)
        seen[each.code] += 1
        size = each.size_bytes + 1
        if seen[each.code] <= SINGLE_COUNT or size > MAX_RAW_BYTES:
            found.append(each)
            continue
        if sizes[key] + size > MAX_RAW_BYTES:
            found.append(_joined(runs.pop(key), key[1]))
            sizes[key] = 0
        runs.setdefault(key, []).append(each)
        sizes[key] += size
    found += [_joined(run, how) for (_, how), run in runs.items()]
    return sorted(found, key=lambda refusal: refusal.index)


def _way_to_join(refusal: Refusal) -> str:
    """Return how a refusal that is not joined yet can be told from others when it is."""
    if refusal.count > 1:
        return CUT
    if is_framed(refusal.raw):
        return DOCUMENTS
    line = refusal.raw
    return SIZES if b"\n" in line or b"\r" in line or is_blank(line) else LINES


def _joined(run: Sequence[Refusal], how: str) -> Refusal:
    if len(run) == 1:
        return run[0]
    sizes: list[int] = []
    raws = [each.raw for each in run]
    if how == SIZES:
        for place, each in enumerate(run):
            own = each.sizes or (len(each.raw),)
            sizes += own
            raws[place] = each.raw[: sum(own) + len(own) - 1]
    count = document_count(run)
    indexes = tuple(each.index for each in run) if 1 < count == len(run) <= MAX_INDEXES else ()
    raw = (b"" if how == DOCUMENTS else b"\n").join(raws)
    return replace(run[0], raw=raw, count=count, indexes=indexes, joined=how, sizes=tuple(sizes))
