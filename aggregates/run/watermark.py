"""The limit up to which an input can be read, and ranges of ids below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from aggregates.exceptions import DefinitionError


class PartitionLike(Protocol):
    """A collection of events, from `first_id` up to the first id of the next partition."""

    @property
    def name(self) -> str: ...
    @property
    def first_id(self) -> int: ...


class WatermarkLike(Protocol):
    """The part of `ingest.store.store.Watermark` that runs use."""

    @property
    def through(self) -> int: ...
    @property
    def complete_through(self) -> datetime: ...
    @property
    def store(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def partitions(self) -> tuple[PartitionLike, ...]: ...


class EventSource(Protocol):
    """The part of `ingest.store.store.Store` that runs use."""

    def watermark(self) -> WatermarkLike: ...


@dataclass(frozen=True)
class ReadableInput:
    """The part of an input that can be read now."""

    through: Any  # highest readable id; None = the input is empty
    complete_through: datetime | None  # every event committed before this can be read
    store: str  # identity of the store that the ids belong to
    epoch: int
    first: Any  # ids up to this one are no longer stored; 0 = all are; None = no integer ids
    collections: tuple[tuple[str, int], ...]  # name and first id, in ascending order
    database: str | None = None
    id_key: str = "_id"
    integral: bool = True  # ids are integers in the order of partitions
    bounded: bool = True  # ids limit what is read; False for aggregates, which are read as a whole
    version: str = ""  # of inputs without growing ids: changes whenever they do

    def range(self, start: Any, through: Any, narrowing: Mapping[str, Any] | None = None) -> IdRange:
        """Return the range (start, through] with only the collections that overlap it."""
        names = []
        for number, (name, first) in enumerate(self.collections):
            following = self.collections[number + 1][1] if number + 1 < len(self.collections) else None
            begins_after = self.integral and first > through
            ends_before = self.integral and following is not None and start is not None and following <= start + 1
            if not (begins_after or ends_before):
                names.append(name)
        return IdRange(
            start=start,
            through=through,
            collections=tuple(names) or (self.collections[-1][0],),
            database=self.database,
            id_key=self.id_key,
            bounded=self.bounded,
            narrowing=narrowing or {},
        )


@dataclass(frozen=True)
class IdRange:
    """Ids above `start`, up to and including `through`, and the collections that hold them."""

    start: Any
    through: Any
    collections: tuple[str, ...]
    database: str | None = None
    id_key: str = "_id"
    bounded: bool = True
    narrowing: Mapping[str, Any] = field(default_factory=dict)  # a further condition on documents

    def condition(self) -> dict[str, Any]:
        """Return the range as a MongoDB filter."""
        if not self.bounded:
            return dict(self.narrowing)
        bounds = {} if self.start is None else {"$gt": self.start}
        return {self.id_key: {**bounds, "$lte": self.through}, **self.narrowing}


def is_above(one: Any, other: Any) -> bool:
    """Return True if `one` is higher than `other` or `other` is None. Raise `DefinitionError` for unlike types."""
    try:
        return other is None or bool(one > other)
    except TypeError:
        raise DefinitionError(
            f"id_key: its values {one!r} and {other!r} are of types that cannot be compared; name a field whose "
            "values have one type and only grow",
            "id_key",
        ) from None


def readable_events(source: EventSource) -> ReadableInput:
    readable = source.watermark()
    first = readable.partitions[0].first_id - 1 if readable.partitions else 0
    return ReadableInput(
        through=readable.through,
        complete_through=readable.complete_through,
        store=str(readable.store),
        epoch=readable.epoch,
        first=first,
        collections=tuple((partition.name, partition.first_id) for partition in readable.partitions),
    )
