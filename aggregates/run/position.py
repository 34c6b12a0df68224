"""The position document of an AggDef as a value: how far it is, what is in progress, which generation is shown.

`agg.position` has one such document per AggDef, under the name of its first output. Each further output of the AggDef
has a small document that points to it (`lead`), so that no other AggDef can claim that output.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

import bson
from bson.codec_options import CodecOptions

from ingest.wire.codec import PLAIN

LeaseKind = Literal["live", "build"]  # for increments, for builds
_AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, type_registry=PLAIN)


def new_uid() -> str:
    """Return a new random id for a run, a build or a planned range; the ids of its jobs are derived from it."""
    return uuid.uuid4().hex[:20]


@dataclass(frozen=True)
class PlannedRange:
    """A fixed range of events to add to one generation, recorded before its jobs are submitted."""

    uid: str  # prefix of the job ids, so that submitting them again repeats no job
    start: Any  # ids above this one; None = from the beginning of an input without integer ids
    through: Any  # up to and including this one
    generation: int
    code: str  # version of the task's code
    jobs: tuple[Mapping[str, Any], ...]  # job specs as documents
    basic: tuple[Mapping[str, Any], ...] = ()  # calls to make after the jobs
    attempt: int = 1
    wrote: bool = False  # a failed attempt may have written part of the results
    complete_through: datetime | None = None  # of the position once this is done

    def to_document(self) -> dict[str, Any]:
        """Return the document for MongoDB. Jobs are packed as BSON because their queries have `$` in field names."""
        document = vars(self) | {"jobs": bson.encode({"jobs": list(self.jobs), "basic": list(self.basic)})}
        del document["basic"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PlannedRange:
        """Restore from the result of `to_document`."""
        packed = bson.decode(document["jobs"], _AWARE)
        known = {each.name: document[each.name] for each in fields(cls) if each.name in document}
        return cls(**{**known, "jobs": tuple(packed["jobs"]), "basic": tuple(packed["basic"])})


@dataclass(frozen=True)
class Build:
    """A generation that a full run or a rebuild is building."""

    uid: str
    mode: str  # "full" or "rebuild"
    generation: int
    code: str
    definition: str  # fingerprint
    base: Any  # ids above this one are in it once it is done
    reached: Any  # ids up to this one are in it; None = nothing yet
    since: datetime | None = None  # rebuild: start of the span, widened to whole periods
    until: datetime | None = None
    copied: bool = False  # rebuild: the documents outside the span have been copied
    open_range: PlannedRange | None = None  # what is being added to it
    store: str = ""  # identity of the event store that it reads
    epoch: int = 0
    version: str = ""  # of the aggregates that it reads
    skipped: tuple[Any, ...] = ()  # as in `Position`, for the ranges done so far
    skipped_count: int = 0

    def to_document(self) -> dict[str, Any]:
        document = vars(self) | {"skipped": list(self.skipped)}
        planned = document.pop("open_range")
        return document | {"step": planned.to_document() if planned else None}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Build:
        """Restore from the result of `to_document`."""
        plain = dict(document)
        planned = plain.pop("step")
        plain["skipped"] = tuple(plain["skipped"])
        return cls(**plain, open_range=PlannedRange.from_document(planned) if planned else None)


@dataclass(frozen=True)
class LeaseState:
    """The lease of one kind: for increments (`live`) or for builds (`build`)."""

    token: int = 0  # fencing token; grows with each lease, so that writes of an earlier holder are refused
    holder: str = ""
    until: datetime | None = None  # end of the lease on MongoDB's clock; None = not held
    cancel: str = ""  # uid of the range or build that a person wants cancelled
    turn: str = ""  # the waiter that gets the lease next, as long as it renews its turn


@dataclass(frozen=True)
class Position:
    """The content of `agg.position` for one AggDef."""

    name: str  # of the first output
    aggdef: str
    outputs: tuple[str, ...]  # all outputs of the AggDef, including the first
    store: str = ""  # identity of the event store that the ids belong to; "" = nothing was read yet
    epoch: int = 0
    position: Any = None  # events up to this id are in; None before the first run
    base: Any = None  # events up to this id were no longer stored at the last full run and are not included
    complete_through: datetime | None = None  # every event committed before this is included
    generation: int = 0  # 0 before the first run
    shown: int = 0  # generation that the views show; differs from `generation` only during a switch
    next_generation: int = 1  # numbers are never reused
    code: str = ""  # version of the task's code at the last full run
    definition: str = ""  # fingerprint at the last full run
    version: str = ""  # of the aggregates that it reads; "" for other inputs
    due: str = ""  # why a full run is due; "" if none is
    blocked: bool = False  # increments would be wrong until that full run
    skipped: tuple[Any, ...] = ()  # ids of events on which the map failed; the first 1,000
    skipped_count: int = 0
    key_times: tuple[Mapping[str, Any], ...] = ()  # by output: how keys are read, and by which code and definition
    live: LeaseState = field(default_factory=LeaseState)
    build: LeaseState = field(default_factory=LeaseState)
    open_range: PlannedRange | None = None  # the open increment
    open_build: Build | None = None  # the open build
    retired: tuple[tuple[int, datetime], ...] = ()  # generations to drop, each with the time it was retired

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Position:
        """Read a document of `agg.position`, except one that only points to another (`lead`)."""
        plain = {name: document[name] for name in _PLAIN_FIELDS if name in document}
        return cls(
            name=document["_id"],
            aggdef=document["aggdef"],
            outputs=tuple(document["outputs"]),
            skipped=tuple(document.get("skipped", ())),
            key_times=tuple(document.get("key_times", ())),
            live=_lease_state(document.get("live")),
            build=_lease_state(document.get("build")),
            open_range=PlannedRange.from_document(planned) if (planned := document.get("step")) else None,
            open_build=Build.from_document(open_build) if (open_build := document.get("making")) else None,
            retired=tuple((item["n"], item["at"]) for item in document.get("retired", ())),
            **plain,
        )


_CONVERTED = {
    "name",
    "aggdef",
    "outputs",
    "skipped",
    "key_times",
    "live",
    "build",
    "open_range",
    "open_build",
    "retired",
}
_PLAIN_FIELDS = {each.name for each in fields(Position)} - _CONVERTED


def _lease_state(document: Mapping[str, Any] | None) -> LeaseState:
    found = document or {}
    return LeaseState(**{each.name: found[each.name] for each in fields(LeaseState) if found.get(each.name)})
