"""Read the documents of one split from MongoDB in batches, and track which one the map is working on."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from mapreduce.codec import RAW
from mapreduce.exceptions import InputRefusedError
from mapreduce.job.spec import Source
from mapreduce.step.cursor_reply import CursorReply

BATCH_COUNT = 20_000  # documents per reply, enough for a whole split (a reply has at most 16 MiB)
WHOLE_READS = 24  # factor on the time limit of an input that cannot be cut and is read as one split
PROGRESS_EVERY_COUNT = 1_000  # documents between two progress reports, which also check if the step was aborted
_OUT_OF_TIME = 50  # MongoDB's code for a command that exceeded its maxTimeMS
_BAD_VALUE = 2  # MongoDB's code for a hint that names no index


@dataclass(frozen=True)
class KeyRange:
    """Documents of one collection with ids above `low`, up to and including `high`; None = no bound."""

    source: int  # index in the job's sources
    collection: str
    low: Any = None
    high: Any = None
    hinted: bool = True  # True if the read must use the index of the id

    def to_document(self) -> dict[str, Any]:
        """Return the BSON-able form."""
        return {"s": self.source, "c": self.collection, "l": self.low, "h": self.high, "i": self.hinted}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KeyRange:
        return cls(document["s"], document["c"], document["l"], document["h"], document["i"])


def id_filter(id_key: str, low: Any, high: Any) -> dict[str, Any]:
    """Return the MongoDB filter for ids above `low`, up to and including `high`; None = no bound."""
    bounds = {operator: value for operator, value in (("$gt", low), ("$lte", high)) if value is not None}
    return {id_key: bounds} if bounds else {}


def projection(fields: tuple[str, ...] | None, id_key: str) -> dict[str, int] | None:
    """Return the projection of `fields` and the id, without paths inside other paths; None = whole documents."""
    if fields is None:
        return None
    wanted = sorted({*fields, id_key, "_id"})
    return {path: 1 for path in wanted if not any(path.startswith(f"{other}.") for other in wanted)}


def batches(
    database: Database[dict[str, Any]], source: Source, span: KeyRange, limit_s: float | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the documents of `span` in batches. Raise `InputRefusedError` if the id has no index, or if the read keeps
    the server busy for longer than `limit_s` (`WHOLE_READS` times that if the input cannot be cut).

    Many documents of a reply are decoded in C at once: a cursor of the driver makes a Python object per document first,
    even for raw BSON.
    """
    bounds = id_filter(source.id_key, span.low, span.high)
    query = {"$and": [bounds, dict(source.query)]} if bounds and source.query else bounds or dict(source.query)
    command: dict[str, Any] = {"find": span.collection, "filter": query, "batchSize": BATCH_COUNT}
    wanted = projection(source.fields, source.id_key)
    if wanted is not None:
        command["projection"] = wanted
    if limit_s is not None:
        command["maxTimeMS"] = math.ceil(limit_s * 1000 * (1 if span.hinted else WHOLE_READS))
    if span.hinted:
        command["hint"] = {source.id_key: 1}
    with database.client.start_session(causal_consistency=False) as session:
        found = CursorReply(_reply(database, source, span, command, session)["cursor"].raw, "firstBatch")
        try:
            while True:
                yield from found.batches()
                if not found.cursor_id:
                    return
                more = {"getMore": Int64(found.cursor_id), "collection": span.collection, "batchSize": BATCH_COUNT}
                reply = _reply(database, source, span, more, session)
                found = CursorReply(reply["cursor"].raw, "nextBatch")
        finally:
            if found.cursor_id:
                with contextlib.suppress(PyMongoError):
                    kill = {"killCursors": span.collection, "cursors": [Int64(found.cursor_id)]}
                    database.command(kill, session=session)


def _reply(
    database: Database[dict[str, Any]], source: Source, span: KeyRange, command: dict[str, Any], session: Any
) -> RawBSONDocument:
    try:
        return database.command(command, codec_options=RAW, session=session)
    except OperationFailure as error:
        if error.code == _BAD_VALUE and "hint" in str(error):
            raise InputRefusedError(
                f"input {span.collection}: key {source.id_key!r} has no index; create one, or name another id_key"
            ) from None
        if error.code == _OUT_OF_TIME:
            raise InputRefusedError(
                f"input {span.collection}: ids above {span.low!r} to {span.high!r} kept MongoDB busy for longer than "
                "split_limit_s: make the filter simpler, give it an index, or cut smaller splits (map_job_size)"
            ) from None
        raise


class DocumentReader:
    """One pass over batches of documents; holds at most one batch.

    Iteration is as fast as over a list. `current` is always the document yielded last.
    """

    def __init__(
        self, batches: Iterable[list[dict[str, Any]]], on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Call `on_progress` with the number of documents yielded so far, every `PROGRESS_EVERY_COUNT` documents."""
        self._batches = batches
        self._on_progress = on_progress
        self._held: list[dict[str, Any]] = []
        self._position: Any = iter(())
        self._before = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(self._lists())

    def _lists(self) -> Iterator[Iterator[dict[str, Any]]]:
        for batch in self._batches:
            for start in range(0, len(batch), PROGRESS_EVERY_COUNT):
                self._before += len(self._held)
                if self._on_progress is not None:
                    self._on_progress(self._before)
                self._held = batch[start : start + PROGRESS_EVERY_COUNT]
                self._position = iter(self._held)
                yield self._position

    def _index(self) -> int:
        """Return how many of the held documents were yielded; the length hint of a list iterator is exact."""
        return len(self._held) - int(self._position.__length_hint__())

    @property
    def count(self) -> int:
        """Return the number of documents yielded so far."""
        return self._before + self._index() if self._held else 0

    @property
    def current(self) -> dict[str, Any] | None:
        """Return the document yielded last; None before the first."""
        index = self._index() if self._held else 0
        return self._held[index - 1] if index else None
