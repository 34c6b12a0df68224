"""Index of the map output that workers hold, and assignment of partitions to reduce steps. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mapreduce.codec import decode, encode
from mapreduce.step.map import MapCounts

STEP_BYTES = 4 * 2**20  # target for the shuffled bytes of one reduce step
ONE_STEP_BYTES = 256 * 2**10  # up to this total there is only one reduce step


@dataclass
class SplitOutput:
    """The output of one split: its location, its segments, and its bytes if the router has them."""

    split: int
    attempt_id: str
    worker_id: str
    data_uri: str  # address at which the worker serves it
    path: str | None  # file on the worker's machine; None = in the worker's memory
    segments: bytes  # BSON `{s: [[label, partition, offset, length, records], ...]}`
    length: int  # bytes
    data: bytes | None = None  # the bytes themselves; None = the router does not keep them
    counts: MapCounts = field(default_factory=MapCounts)
    span: Mapping[str, Any] | None = None  # `KeyRange.to_document` of the split, whose number can be of another plan

    def each(self) -> Iterator[list[Any]]:
        """Yield `[label, partition, offset, length, records]` of each segment."""
        yield from unpack_segments(self.segments)

    def add_sizes(self, sizes: dict[tuple[str, int], int]) -> None:
        """Add the bytes of each label and partition to `sizes`."""
        for label, partition, _, length, _ in self.each():
            sizes[label, partition] = sizes.get((label, partition), 0) + length

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], worker_id: str, data_uri: str, data: bytes | None = None
    ) -> SplitOutput:
        """Return the output that a worker reported; `data` was sent in a separate frame."""
        return cls(
            split=document["split"],
            attempt_id=document["attempt"],
            worker_id=worker_id,
            data_uri=data_uri,
            path=document["path"],
            segments=document["segments"],
            length=document["length"],
            data=data,
            counts=MapCounts.from_document(document),
            span=document["span"],
        )


def pack_segments(segments: list[list[Any]]) -> bytes:
    """Return the compact form of `SplitOutput.segments` and of lists of runs."""
    return encode({"s": segments})


def unpack_segments(packed: bytes) -> list[list[Any]]:
    found: list[list[Any]] = decode(packed)["s"]
    return found


def group_partitions(sizes: Mapping[tuple[str, int], int], slots: int) -> list[list[tuple[str, int]]]:
    """Group partitions into reduce steps of about equal size, and of about `STEP_BYTES` each.

    Each partition is in exactly one group; the same sizes give the same groups.
    """
    total = sum(sizes.values())
    if not sizes:
        return []
    # Use a multiple of the slots, so that all of them are busy to the end.
    wanted = 1 if total <= ONE_STEP_BYTES else slots * max(1, math.ceil(total / STEP_BYTES / slots))
    groups: list[list[tuple[str, int]]] = [[] for _ in range(min(wanted, len(sizes)))]
    filled = [(0, index) for index in range(len(groups))]  # a heap
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        size, smallest = filled[0]
        groups[smallest].append(name)
        heapq.heapreplace(filled, (size + sizes[name], smallest))
    return groups
