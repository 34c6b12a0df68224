"""The outcome of sending events, put together from the answers to its requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of one `send`: the number of events per result.

    `rejected` lists `{index, code, message}`, with `index` within the `send`. One that stands for several events has
    their `count`, and `indexes` if they are not too many.
    """

    accepted: int  # on the ingester's disk
    rejected: list[dict[str, Any]] = field(default_factory=list)
    spooled: int = 0  # kept on this machine's disk, to be sent later

    @property
    def rejected_count(self) -> int:
        """Return the number of events that were rejected."""
        return sum(refusal.get("count", 1) for refusal in self.rejected)


def places_of(refusal: Mapping[str, Any]) -> list[int]:
    """Return the indexes of the events that one item of `rejected` stands for, as far as it lists them."""
    found: list[int] = refusal.get("indexes", [refusal["index"]])
    return found


def moved(refusal: Mapping[str, Any], place: Callable[[int], int]) -> dict[str, Any]:
    """Return an item of `rejected` with other indexes: `place` returns the new one for each."""
    indexes = {"indexes": list(map(place, refusal["indexes"]))} if "indexes" in refusal else {}
    return {**refusal, "index": place(refusal["index"]), **indexes}


def combined(requests: Sequence[Sequence[bytes]], answers: Mapping[int, Mapping[str, Any]]) -> Receipt:
    """Return the receipt for requests of encoded events, of which those in `answers` were answered."""
    accepted, before = 0, 0
    rejected: list[dict[str, Any]] = []
    for number, request in enumerate(requests):
        if number in answers:
            accepted += answers[number]["accepted"]
            rejected += [moved(refusal, before.__add__) for refusal in answers[number]["rejected"]]
        before += len(request)
    return Receipt(accepted, rejected)
