"""The result of a run, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aggregates.definition.definition import Definition
from aggregates.run.position import Position

State = Literal["complete", "nothing", "blocked"]


@dataclass(frozen=True)
class RunCounts:
    """Counts of what one or more ranges of a run read and wrote."""

    docs_in: int = 0  # documents handed to maps
    keys: int = 0  # output documents touched
    skipped: tuple[Any, ...] = ()  # ids of documents on which the map failed, at most 1,000
    skipped_count: int = 0
    job_ids: tuple[str, ...] = ()

    def __add__(self, other: RunCounts) -> RunCounts:
        return RunCounts(
            self.docs_in + other.docs_in,
            self.keys + other.keys,
            (self.skipped + other.skipped)[:1000],
            self.skipped_count + other.skipped_count,
            self.job_ids + other.job_ids,
        )


@dataclass(frozen=True)
class Outcome:
    """The result of one refresh, full run or rebuild."""

    name: str  # of the AggDef
    mode: str  # incremental, full or rebuild
    state: State
    reason: str = ""  # why nothing was done, or why a full run is due
    uid: str = ""
    start: Any = None  # the run read ids above this one
    through: Any = None  # the position after the run
    complete_through: datetime | None = None
    generation: int = 0
    outputs: tuple[str, ...] = ()
    counts: RunCounts = RunCounts()
    duration_s: float = 0.0
    code: str = ""  # version of the task's code
    due: str = ""  # why a full run is due although this run succeeded
    odd_keys: tuple[str, ...] = ()  # the first keys that a rebuild kept because `period(key)` fails on them, and how
    odd_count: int = 0

    def sentence(self) -> str:
        """Return one line for a person."""
        targets = ", ".join(f"zagg.{name}" for name in self.outputs)
        if self.state == "blocked":
            return f"{self.name}: a full run is due: {self.reason}"
        if self.state == "nothing":
            return f"{self.name}: {self.reason}; {targets} holds all events through {self.through}"
        skipped = f", {self.counts.skipped_count} skipped" if self.counts.skipped_count else ""
        span = f"({self.start}, {self.through}]" if self.start is not None else f"through {self.through}"
        return (
            f"{self.name}: {self.mode} run over events {span}: {self.counts.docs_in} read{skipped}, "
            f"{self.counts.keys} keys of {targets} written in {self.duration_s:.2f} s{self._odd_sentence()}"
        )

    def _odd_sentence(self) -> str:
        if not self.odd_count:
            return ""
        more = ", ..." if self.odd_count > len(self.odd_keys) else ""
        return f"; {self.odd_count} kept as they are, because period(key) fails: {', '.join(self.odd_keys)}{more}"


def make_outcome(
    definition: Definition, position: Position, state: Any, reason: str = "", mode: str = "incremental", **run: Any
) -> Outcome:
    """Return an outcome with the state of `position`; `run` are fields that only a run which did something has."""
    return Outcome(
        name=definition.name,
        mode=mode,
        state=state,
        reason=reason,
        through=position.position,
        complete_through=position.complete_through,
        generation=position.generation,
        outputs=position.outputs,
        due=position.due,
        **run,
    )
