"""Input from a receiver on its way to the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..turn import NO_PAUSE, Turn
from .refusal import SINGLE_COUNT, Refusal, gathered


class Checkpoint(NamedTuple):
    """Record the sizes of a batch at some time."""

    events: int
    ids: int
    refusals: int
    commands: int
    size_bytes: int


@dataclass(slots=True)
class ReceivedBatch:
    """Accepted events as raw BSON without `_id`, refused input, and commands.

    `ids` has one entry per event, None for an event without `id`; it stays empty until an event has one.
    """

    source: str  # name of the receiver
    known_commands: frozenset[str] = frozenset()  # collected in `commands`; any other is refused
    events: list[bytes] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0  # of events and refused input

    def accept(self, raw: bytes, id_: str | None) -> None:
        if id_ is not None or self.ids:
            if len(self.ids) < len(self.events):
                self.ids += [None] * (len(self.events) - len(self.ids))
            self.ids.append(id_)
        self.events.append(raw)
        self.size_bytes += len(raw)

    def accept_all(self, raws: Sequence[bytes], ids: Sequence[str]) -> None:
        """Add several events, either all with an `id` or all without."""
        if ids or self.ids:
            self.ids += [None] * (len(self.events) - len(self.ids))
            self.ids += ids or [None] * len(raws)
        self.events += raws
        self.size_bytes += sum(map(len, raws))

    def checkpoint(self) -> Checkpoint:
        """Return the current sizes, for `roll_back`."""
        return Checkpoint(len(self.events), len(self.ids), len(self.refusals), len(self.commands), self.size_bytes)

    def roll_back(self, checkpoint: Checkpoint) -> None:
        """Drop everything that was added since `checkpoint`."""
        events, ids, refusals, commands, self.size_bytes = checkpoint
        del self.events[events:], self.ids[ids:], self.refusals[refusals:], self.commands[commands:]

    def refuse(self, code: str, message: str, raw: bytes, index: int = 0) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # JSON allows lone surrogates, BSON does not
        self.add_refusal(Refusal(code, message, raw, index))

    def add_refusal(self, refusal: Refusal) -> None:
        """Add a refusal whose message BSON can hold."""
        self.refusals.append(refusal)
        self.size_bytes += len(refusal.raw)

    def gather_refusals(self, first: int, turn: Turn = NO_PAUSE) -> None:
        """Join the refusals of one message, those from number `first` on, where there are many: see `gathered`."""
        if len(self.refusals) - first > SINGLE_COUNT:
            self.refusals[first:] = gathered(turn.between(self.refusals[first:]))

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to write to the journal."""
        return not self.events and not self.refusals
