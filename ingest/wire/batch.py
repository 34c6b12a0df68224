"""What came in through a door and is on its way to the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .refusal import Refusal


@dataclass(slots=True)
class ReceivedBatch:
    """Accepted events as raw BSON without `_id`, refused input, and commands that are no events.

    `ids` has one entry per event, None where the event has no `id`; it stays empty as long as none has one.
    """

    source: str
    known_commands: frozenset[str] = frozenset()  # those that are put aside as commands; any other is refused
    events: list[bytes] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0  # of events and refused input

    def accept(self, raw: bytes, id_: str | None) -> None:
        """Add one event."""
        if id_ is not None or self.ids:
            if len(self.ids) < len(self.events):
                self.ids += [None] * (len(self.events) - len(self.ids))
            self.ids.append(id_)
        self.events.append(raw)
        self.size_bytes += len(raw)

    def accept_all(self, raws: Sequence[bytes], ids: Sequence[str]) -> None:
        """Add several events, all of them with an `id` or none."""
        if ids or self.ids:
            self.ids += [None] * (len(self.events) - len(self.ids))
            self.ids += ids or [None] * len(raws)
        self.events += raws
        self.size_bytes += sum(map(len, raws))

    @property
    def size(self) -> tuple[int, int, int, int, int]:
        """What is in it by now, for `cut`."""
        return len(self.events), len(self.ids), len(self.refusals), len(self.commands), self.size_bytes

    def cut(self, size: tuple[int, int, int, int, int]) -> None:
        """Forget what was added since `size` was asked for."""
        events, ids, refusals, commands, self.size_bytes = size
        del self.events[events:], self.ids[ids:], self.refusals[refusals:], self.commands[commands:]

    def refuse(self, code: str, message: str, raw: bytes, index: int = 0) -> None:
        """Add one refusal."""
        message = message.encode("utf-8", "backslashreplace").decode()  # JSON has halves of characters, BSON has not
        self.refusals.append(Refusal(code, message, raw, index))
        self.size_bytes += len(raw)

    @property
    def empty(self) -> bool:
        """Whether there is nothing for the journal."""
        return not self.events and not self.refusals
