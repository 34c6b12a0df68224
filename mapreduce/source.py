"""Reads documents of one split from MongoDB in raw batches, and knows which document the map has in hand."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import bson
from pymongo.database import Database
from pymongo.errors import OperationFailure

from mapreduce.codec import CODEC
from mapreduce.exceptions import InputRefusedError
from mapreduce.spec import Source

BATCH_COUNT = 5_000  # documents asked for at once
DECODE_BYTES = 2 * 2**20  # raw bytes decoded at once: decoded documents take five to ten times as much
_BAD_VALUE = 2  # MongoDB's code for a hint that names no index


@dataclass(frozen=True)
class Range:
    """Documents of one collection with an id above `low`, up to and with `high`; None = no bound."""

    source: int  # index in the job's sources
    collection: str
    low: Any = None
    high: Any = None
    hinted: bool = True  # whether the read is held to the index of the id

    def to_document(self) -> dict[str, Any]:
        """The BSON-able form."""
        return {"s": self.source, "c": self.collection, "l": self.low, "h": self.high, "i": self.hinted}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Range:
        """The range that `to_document` described."""
        return cls(document["s"], document["c"], document["l"], document["h"], document["i"])


def id_filter(id_key: str, low: Any, high: Any) -> dict[str, Any]:
    """The MongoDB filter for ids above `low`, up to and with `high`."""
    bounds = {operator: value for operator, value in (("$gt", low), ("$lte", high)) if value is not None}
    return {id_key: bounds} if bounds else {}


def projection(fields: tuple[str, ...] | None, id_key: str) -> dict[str, int] | None:
    """The projection that reads `fields` and the id, and no path that lies within another."""
    if fields is None:
        return None
    wanted = sorted({*fields, id_key, "_id"})
    return {path: 1 for path in wanted if not any(path.startswith(f"{other}.") for other in wanted)}


def raw_batches(database: Database[dict[str, Any]], source: Source, span: Range) -> Iterator[bytes]:
    """Concatenated BSON documents of `span`, as the server sent them. Raises `InputRefusedError` without an index."""
    bounds = id_filter(source.id_key, span.low, span.high)
    query = {"$and": [bounds, dict(source.query)]} if bounds and source.query else bounds or dict(source.query)
    cursor = database[span.collection].find_raw_batches(
        query, projection(source.fields, source.id_key), batch_size=BATCH_COUNT
    )
    if span.hinted:
        cursor.hint([(source.id_key, 1)])
    try:
        with cursor:
            yield from cursor
    except OperationFailure as error:
        if error.code == _BAD_VALUE and "hint" in str(error):
            raise InputRefusedError(
                f"input {span.collection}: key {source.id_key!r} has no index; create one, or name another id_key"
            ) from None
        raise


class Documents:
    """One pass over the documents of raw batches, decoded batch by batch; at most one batch is held.

    Iteration runs at the speed of a list. `current` tells at any time which document was handed out last.
    """

    def __init__(self, batches: Iterable[bytes], said: Callable[[int], None] | None = None) -> None:
        """`said` is called with the documents handed out so far whenever a batch begins."""
        self._batches = batches
        self._said = said
        self._held: list[dict[str, Any]] = []
        self._position: Any = iter(())
        self._before = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(self._lists())

    def _lists(self) -> Iterator[Iterator[dict[str, Any]]]:
        for batch in self._batches:
            for part in _portions(batch):
                self._before += len(self._held)
                if self._said is not None:
                    self._said(self._before)
                self._held = bson.decode_all(part, CODEC)
                self._position = iter(self._held)
                yield self._position

    def _index(self) -> int:
        """How many of the held documents were handed out: an exhausted list iterator hints at none left."""
        return len(self._held) - int(self._position.__length_hint__())

    @property
    def count(self) -> int:
        """Documents handed out so far."""
        return self._before + self._index() if self._held else 0

    @property
    def current(self) -> dict[str, Any] | None:
        """The document handed out last; None before the first."""
        index = self._index() if self._held else 0
        return self._held[index - 1] if index else None


def _portions(batch: bytes) -> Iterator[bytes]:
    """`batch` cut at document boundaries into pieces of about `DECODE_BYTES`."""
    if len(batch) <= DECODE_BYTES:
        yield batch
        return
    start = end = 0
    while end < len(batch):
        end += struct.unpack_from("<i", batch, end)[0]
        if end - start >= DECODE_BYTES or end >= len(batch):
            yield batch[start:end]
            start = end
