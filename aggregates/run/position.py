"""The position document of an output as a value: how far it is, what is under way, which generation is shown.

One document of `agg.position` per AggDef, under the name of its first output; further outputs of the same AggDef have a
small document that points to it (`lead`), which keeps other AggDefs away from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import bson
from bson.codec_options import CodecOptions

SlotName = Literal["live", "build"]
_AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


@dataclass(frozen=True)
class RunStep:
    """A fixed range of events on its way into one generation, recorded before its jobs are submitted."""

    uid: str  # names the jobs: a step sent again is the same jobs
    start: Any  # ids above this one; None = from the beginning of an input without integer ids
    through: Any  # up to and with this one
    generation: int
    code: str  # version of the task's code
    jobs: tuple[Mapping[str, Any], ...]  # what the engine gets, as documents
    basic: tuple[Mapping[str, Any], ...] = ()  # calls that follow the jobs
    attempt: int = 1
    wrote: bool = False  # an attempt failed when results may have been partly written
    complete_through: datetime | None = None  # what the position says once the step is done

    def to_document(self) -> dict[str, Any]:
        """For MongoDB. Jobs are packed, because their queries have `$` in the names of fields."""
        return {
            "uid": self.uid,
            "start": self.start,
            "through": self.through,
            "generation": self.generation,
            "code": self.code,
            "jobs": bson.encode({"jobs": list(self.jobs), "basic": list(self.basic)}),
            "attempt": self.attempt,
            "wrote": self.wrote,
            "complete_through": self.complete_through,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RunStep:
        """The reverse of `to_document`."""
        packed = bson.decode(document["jobs"], _AWARE)
        return cls(
            uid=document["uid"],
            start=document["start"],
            through=document["through"],
            generation=document["generation"],
            code=document["code"],
            jobs=tuple(packed["jobs"]),
            basic=tuple(packed["basic"]),
            attempt=document["attempt"],
            wrote=document["wrote"],
            complete_through=document["complete_through"],
        )


@dataclass(frozen=True)
class Build:
    """A generation in the making, by a full run or by the rebuild of a range."""

    uid: str
    mode: str  # "full" or "rebuild"
    generation: int
    code: str
    definition: str  # fingerprint
    base: Any  # ids above this one are in it once it is done
    reached: Any  # ids up to this one are in it; None = nothing yet
    since: datetime | None = None  # rebuild: the span, widened to whole periods
    until: datetime | None = None
    copied: bool = False  # rebuild: what lies outside the span is in it
    step: RunStep | None = None
    store: str = ""  # the store that it reads
    epoch: int = 0
    version: str = ""  # of the aggregates that it reads
    skipped: tuple[Any, ...] = ()  # as of a position, for the steps taken so far
    skipped_count: int = 0

    def to_document(self) -> dict[str, Any]:
        """For MongoDB."""
        return vars(self) | {"step": self.step.to_document() if self.step else None, "skipped": list(self.skipped)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Build:
        """The reverse of `to_document`."""
        step = document["step"]
        skipped = tuple(document["skipped"])
        return cls(**{**document, "step": RunStep.from_document(step) if step else None, "skipped": skipped})


@dataclass(frozen=True)
class Slot:
    """One of the two things that may be under way, and the lease on doing it."""

    token: int = 0  # raised with every change of hands: what an earlier holder still sends is refused
    holder: str = ""
    until: datetime | None = None  # on MongoDB's clock
    cancel: str = ""  # uid of the step or build that a person wants cancelled
    turn: str = ""  # who waits for it, and is left to have it next for as long as it says so again


@dataclass(frozen=True)
class Position:
    """What `agg.position` says of one AggDef."""

    name: str  # of the first output
    aggdef: str
    outputs: tuple[str, ...]  # all of the AggDef's, the first one included
    store: str = ""  # identity of the event store that the ids belong to; "" = nothing was read yet
    epoch: int = 0
    position: Any = None  # events up to this id are in; None before the first run
    base: Any = None  # events up to this id are not in and need not be
    complete_through: datetime | None = None
    generation: int = 0  # 0 before the first run
    shown: int = 0  # generation that the views show; differs only for the moment of a switch
    next_generation: int = 1  # numbers are never used twice
    code: str = ""  # of the generation's base
    definition: str = ""
    version: str = ""  # of the aggregates that it reads; "" when it reads something else
    due: str = ""  # why a full run is due; "" when none is
    blocked: bool = False  # increments would be wrong until it is made
    skipped: tuple[Any, ...] = ()  # ids of events on which the map failed; the first thousand
    skipped_count: int = 0
    live: Slot = field(default_factory=Slot)
    build: Slot = field(default_factory=Slot)
    step: RunStep | None = None  # the open increment
    making: Build | None = None  # the open build
    retired: tuple[tuple[int, datetime], ...] = ()  # generations to drop, and since when nobody needs them

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Position:
        """Read a document of `agg.position` (not one that only points to another)."""
        plain = {key: document[key] for key in _PLAIN if key in document}
        return cls(
            name=document["_id"],
            aggdef=document["aggdef"],
            outputs=tuple(document["outputs"]),
            skipped=tuple(document.get("skipped", ())),
            live=_slot(document.get("live")),
            build=_slot(document.get("build")),
            step=RunStep.from_document(step) if (step := document.get("step")) else None,
            making=Build.from_document(making) if (making := document.get("making")) else None,
            retired=tuple((item["n"], item["at"]) for item in document.get("retired", ())),
            **plain,
        )


_PLAIN = (
    "store",
    "epoch",
    "position",
    "base",
    "complete_through",
    "generation",
    "shown",
    "next_generation",
    "code",
    "definition",
    "version",
    "due",
    "blocked",
    "skipped_count",
)


def _slot(document: Mapping[str, Any] | None) -> Slot:
    if not document:
        return Slot()
    return Slot(
        token=document.get("token", 0),
        holder=document.get("holder") or "",
        until=document.get("until"),
        cancel=document.get("cancel") or "",
        turn=document.get("turn") or "",
    )
