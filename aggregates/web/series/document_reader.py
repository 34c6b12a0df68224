"""Read documents of a collection in batches, as bytes, so that they are decoded where they hold up no other request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import bson
from bson.codec_options import CodecOptions
from pymongo.collection import Collection

from aggregates.web.compute_thread import PIECE_BYTES, AnswerPlace
from aggregates.web.exceptions import TooLargeError

BATCH_DOCUMENTS: Final = 2_000
PIECE_DOCUMENTS: Final = 500
MAX_BYTES: Final = 64 * 2**20  # of one answer that is not written while it is sent

Document = dict[str, Any]
Options = CodecOptions[Document]
Order = str | Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the documents of an answer, as BSON.

    `work_bytes` is what to tell `compute`. From the second batch on it is beyond `PIECE_BYTES`: documents that follow
    `BATCH_DOCUMENTS` others are never few, however small they are, and all batches of tiny ones together take seconds.
    """

    documents: bytes
    work_bytes: int


class ByteLimit:
    """Count the bytes of one answer, which needs its `place` once they are many."""

    def __init__(
        self,
        most_bytes: int = MAX_BYTES,
        place: AnswerPlace | None = None,
        advice: str = "use a shorter range, or fewer queries at once",
    ) -> None:
        self._most_bytes = most_bytes
        self._place = place
        self._advice = advice
        self.size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Add to the count. Raise `TooLargeError` if the answer becomes too large, or what its place raises."""
        self.size_bytes += size_bytes
        if self.size_bytes > self._most_bytes:
            raise TooLargeError(f"the answer has more than {self._most_bytes} bytes: {self._advice}")
        if self._place is not None:
            self._place.take(size_bytes)


def read_batches(
    collection: Collection[Document],
    condition: Mapping[str, Any],
    fields: Mapping[str, Any] | None,
    order: Order = "_id",
    *,
    limit: int = 0,
    limit_ms: int | None = None,
) -> Iterator[Batch]:
    """Yield the documents in their order, up to `BATCH_DOCUMENTS` at a time; `limit` 0 means all of them.

    Raw batches are faster, too: with a type decoder, the driver makes a raw document of each one first. `limit_ms` is
    the time that MongoDB may take.
    """
    work_bytes = 0
    cursor = collection.find_raw_batches(condition, fields, batch_size=BATCH_DOCUMENTS).sort(order).limit(limit)
    if limit_ms is not None:
        cursor = cursor.max_time_ms(limit_ms)
    with cursor:
        for batch in cursor:
            documents = cast(bytes, batch)  # the driver's types say otherwise
            work_bytes += len(documents)
            yield Batch(documents, work_bytes)
            work_bytes = max(work_bytes, PIECE_BYTES)


def iter_decoded(batch: bytes, options: Options) -> Iterable[Document]:
    """Return the documents of a batch, decoded one by one if it is large: one call of C gives way to nobody."""
    return bson.decode_all(batch, options) if len(batch) <= PIECE_BYTES else bson.decode_iter(batch, options)


class StoredDocuments:
    """Documents in memory as BSON, decoded each time they are looped over: decoded ones take ten times as much.

    With `inside`, only those are seen for whose key it returns True.
    """

    def __init__(self, options: Options, inside: Callable[[Any], bool] | None = None) -> None:
        self._options = options
        self._inside = inside
        self._batches: list[bytes] = []
        self.count = 0

    def add(self, batch: bytes) -> None:
        """Add the documents of a batch."""
        self._batches.append(batch)
        self.count += sum(1 for _ in _ends(batch))

    def __iter__(self) -> Iterator[Document]:
        for batch in self._batches:
            for document in iter_decoded(batch, self._options):
                if self._inside is None or self._inside(document["_id"]):
                    yield document


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the documents of an export, of at most `PIECE_BYTES` as BSON, or a single one."""

    documents: Iterable[Mapping[str, Any]]  # decoded each time they are looped over
    count: int
    size_bytes: int
    work_bytes: int  # to tell `compute`


def pieces_of(batch: Batch, options: Options, inside: Callable[[Any], bool]) -> Iterator[Piece]:
    """Yield a batch in pieces of up to `PIECE_DOCUMENTS`, without those documents for whose key `inside` is False."""
    start = end = count = 0
    for following in (*_ends(batch.documents), None):
        if count and (following is None or count == PIECE_DOCUMENTS or following - start > PIECE_BYTES):
            stored = StoredDocuments(options, inside)
            stored.add(batch.documents[start:end])
            yield Piece(stored, count, end - start, batch.work_bytes)
            start, count = end, 0
        if following is not None:
            end, count = following, count + 1


def _ends(batch: bytes) -> Iterator[int]:
    """Yield where each document of a batch ends; it begins with its length (bsonspec.org)."""
    end = 0
    while end < len(batch):
        end += int.from_bytes(batch[end : end + 4], "little")
        yield end
