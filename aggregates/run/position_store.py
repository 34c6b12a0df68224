"""Read and change the documents of `agg.position`. Every change is one atomic operation, fenced if it needs a lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import ReturnDocument, WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from aggregates.exceptions import LeaseHeldError, LeaseLostError, OutputTakenError, UnknownAggregateError
from aggregates.run.lease import LEASE_S, Lease
from aggregates.run.lease_holder import is_dead, new_holder
from aggregates.run.position import Build, LeaseKind, PlannedRange, Position

COLLECTION = "agg.position"
TURN_S = 5.0  # how long a lease stays reserved for a waiter that does not renew its turn
MOST_SKIPPED = 1000
DURABLE = WriteConcern(w="majority", j=True)


@dataclass(frozen=True)
class PositionUpdate:
    """The new state of a position, once a range of ids has been added."""

    through: Any
    complete_through: datetime | None
    skipped: tuple[Any, ...] = ()  # ids on which the map failed in this range, at most 1,000
    skipped_count: int = 0


@dataclass(frozen=True)
class OutputPosition:
    """The generation and position of an output."""

    aggdef: str
    generation: int
    position: Any
    version: str  # of the aggregates that it reads


class PositionStore:
    """Read and change position documents. Thread-safe; every method blocks on MongoDB."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._collection = database.get_collection(COLLECTION, write_concern=DURABLE)

    # Reading

    def find(self, name: str) -> Position | None:
        """Return the position that has the output `name`, or None."""
        document = self._collection.find_one({"_id": name})
        if document and "lead" in document:
            document = self._collection.find_one({"_id": document["lead"]})
        return Position.from_document(document) if document else None

    def find_by_aggdef(self, aggdef: str) -> Position | None:
        """Return the position of the AggDef, or None."""
        document = self._collection.find_one({"aggdef": aggdef, "lead": {"$exists": False}})
        return Position.from_document(document) if document else None

    def get(self, name: str) -> Position:
        """Return the position that has the output `name`. Raise `UnknownAggregateError` if there is none."""
        position = self.find(name)
        if position is None:
            raise UnknownAggregateError(f"agg.position has no document {name!r}: has the database been emptied?")
        return position

    def output_positions(self) -> dict[str, OutputPosition]:
        """Return the position of every output by its name; fast for thousands."""
        fields = {"aggdef": 1, "lead": 1, "generation": 1, "position": 1, "version": 1}
        documents = {document["_id"]: document for document in self._collection.find({}, fields)}
        found = {}
        for name, document in documents.items():
            lead = documents.get(document.get("lead", name), document)
            found[name] = OutputPosition(
                lead["aggdef"], lead.get("generation", 0), lead.get("position"), lead.get("version", "")
            )
        return found

    # Owning outputs

    def claim(self, outputs: Iterable[str], aggdef: str) -> Position:
        """Return the position of these outputs, created if missing; idempotent. A new output is added to it.

        Raise `OutputTakenError` if one of the outputs belongs to another AggDef.
        """
        names = tuple(outputs)
        found = {d["_id"]: d for d in self._collection.find({"_id": {"$in": list(names)}})}
        for name, document in found.items():
            if document["aggdef"] != aggdef:
                raise OutputTakenError(
                    f"output zagg.{name} belongs to the aggregate {document['aggdef']!r}: "
                    f"give {aggdef!r} another output, or delete {document['aggdef']!r} first"
                )
        own = self.find_by_aggdef(aggdef)
        lead = own.name if own else names[0]
        if own and set(own.outputs) == set(names):
            return own
        for name in names:
            if name not in found:
                self._insert(name, lead, aggdef, names)
        if own:
            self._collection.update_one({"_id": lead}, {"$addToSet": {"outputs": {"$each": list(names)}}})
        return self.get(lead)

    def _insert(self, name: str, lead: str, aggdef: str, names: tuple[str, ...]) -> None:
        document: dict[str, Any] = {"_id": name, "aggdef": aggdef}
        document |= {"lead": lead} if name != lead else {"outputs": list(names), "next_generation": 1}
        try:
            self._collection.insert_one(document)
        except DuplicateKeyError:
            other = self._collection.find_one({"_id": name}, {"aggdef": 1})
            if other is not None and other["aggdef"] != aggdef:
                raise OutputTakenError(f"output zagg.{name} was taken by {other['aggdef']!r} just now") from None

    def delete(self, position: Position) -> None:
        """Remove the position and its claims; the caller removes generations and views."""
        self._collection.delete_many({"aggdef": position.aggdef, "lead": position.name})
        self._collection.delete_one({"_id": position.name})

    # Leases

    def acquire(
        self, name: str, kind: LeaseKind, lease_s: float = LEASE_S, *, waiter: str = ""
    ) -> tuple[Lease, Position]:
        """Take the lease of this kind; also from a dead holder, or once it has expired.

        Raise `LeaseHeldError`, naming the holder, if another process holds the lease, or if it is the turn of another
        waiter than `waiter` (see `request_turn`).
        """
        holder = new_holder()
        document = self._take_lease(_free(kind, waiter) | {"_id": name}, kind, holder, lease_s)
        if document is None:
            current = getattr(self.get(name), kind)
            guard: dict[str, Any] = {}
            if current.holder and is_dead(current.holder):
                guard = {f"{kind}.token": current.token, f"{kind}.holder": current.holder, **_turn_of(kind, waiter)}
            elif current.turn and is_dead(current.turn):
                guard = {f"{kind}.turn": current.turn, **_unheld(kind)}
            if guard:
                document = self._take_lease({"_id": name, **guard}, kind, holder, lease_s)
            if document is None:
                raise LeaseHeldError(
                    f"zagg.{name} is being worked on by {current.holder or current.turn or 'another process'}"
                )
        return Lease(name, kind, document[kind]["token"], holder), Position.from_document(document)

    def request_turn(self, name: str, kind: LeaseKind, waiter: str, turn_s: float = TURN_S) -> None:
        """Reserve the lease for `waiter` as soon as it is free; call again within `turn_s` to keep the turn.

        Do nothing while it is another waiter's turn. Taking the lease ends the turn.
        """
        taken = {f"{kind}.turn": {"$literal": waiter}, f"{kind}.turn_until": {"$add": ["$$NOW", int(turn_s * 1000)]}}
        self._collection.update_one({"_id": name, **_turn_of(kind, waiter)}, [{"$set": taken}])

    def acquire_for(self, name: str, planned: PlannedRange, lease_s: float = LEASE_S) -> tuple[Lease, Position] | None:
        """Take the lease of increments and record `planned` in one operation.

        Return None if another process has the lease, a range is open, or the position has moved.
        """
        holder = new_holder()
        condition = {
            "_id": name,
            "position": planned.start,
            "generation": planned.generation,
            "step": None,
            **_free("live"),
        }
        recorded = {"step": {"$literal": planned.to_document()}}
        document = self._take_lease({**condition, "shown": planned.generation}, "live", holder, lease_s, recorded)
        if document is None:
            return None
        return Lease(name, "live", document["live"]["token"], holder), Position.from_document(document)

    def _take_lease(
        self,
        condition: Mapping[str, Any],
        kind: str,
        holder: str,
        lease_s: float,
        also: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        taken = {
            **(also or {}),
            f"{kind}.token": {"$add": [{"$ifNull": [f"${kind}.token", 0]}, 1]},
            f"{kind}.holder": {"$literal": holder},
            f"{kind}.until": {"$add": ["$$NOW", int(lease_s * 1000)]},
            f"{kind}.turn": "",
        }
        return self._update(condition, [{"$set": taken}])

    def renew(self, lease: Lease, lease_s: float = LEASE_S) -> bool:
        """Extend the lease to `lease_s` from now; return False if it was released or another holder has taken over."""
        until = {f"{lease.kind}.until": {"$add": ["$$NOW", int(lease_s * 1000)]}}
        held = {**lease.guard, f"{lease.kind}.holder": lease.holder}
        return self._collection.update_one(held, [{"$set": until}]).matched_count == 1

    def release(self, lease: Lease) -> None:
        """Release the lease; does nothing if another holder has taken over."""
        self._collection.update_one(lease.guard, {"$set": {f"{lease.kind}.holder": "", f"{lease.kind}.until": None}})

    def _update(self, condition: Mapping[str, Any], update: Any) -> dict[str, Any] | None:
        """Return the document that matches `condition`, as it is after the update; None if there is none."""
        return self._collection.find_one_and_update(condition, update, return_document=ReturnDocument.AFTER)

    def _change(self, lease: Lease, update: Mapping[str, Any], also: Mapping[str, Any] | None = None) -> Position:
        document = self._update({**(also or {}), **lease.guard}, update)
        if document is None:
            raise LeaseLostError(
                f"zagg.{lease.name}: the lease was taken over by another process, which continues the work"
            )
        return Position.from_document(document)

    # Increments

    def record_range(self, lease: Lease, planned: PlannedRange) -> Position:
        """Record the open increment. Raise `LeaseLostError`; so do all methods below."""
        return self._change(
            lease,
            {"$set": {"step": planned.to_document()}},
            {"position": planned.start, "generation": planned.generation},
        )

    def advance(
        self, lease: Lease, planned: PlannedRange, reached: PositionUpdate, *, release: bool = False
    ) -> Position:
        """Advance the position past the range and close it; `release` releases the lease in the same operation."""
        update: dict[str, Any] = {
            "$set": {
                "position": reached.through,
                "complete_through": reached.complete_through,
                "step": None,
                "live.cancel": "",
            }
        }
        if release:
            update["$set"] |= {"live.holder": "", "live.until": None}
        if reached.skipped_count:
            update["$push"] = {"skipped": {"$each": list(reached.skipped), "$slice": MOST_SKIPPED}}
            update["$inc"] = {"skipped_count": reached.skipped_count}
        return self._change(lease, update, {"position": planned.start, "step.uid": planned.uid})

    def skip_empty_range(self, position: Position, reached: PositionUpdate) -> Position | None:
        """Advance the position past a range with no input for this aggregate.

        Return None if the position has moved or a range is open. Needs no lease: a holder that has planned from the old
        position is refused when it records its range.
        """
        unmoved = {"position": position.position, "generation": position.generation, "step": None}
        update = {"position": reached.through, "complete_through": reached.complete_through}
        document = self._update({"_id": position.name, **unmoved}, {"$set": update})
        return Position.from_document(document) if document else None

    def abandon(self, lease: Lease, planned: PlannedRange, *, due: str = "", blocked: bool = False) -> Position:
        """Close an open increment without finishing it; `due` records why a full run is due."""
        update: dict[str, Any] = {"step": None, "live.cancel": ""}
        if due:
            update |= {"due": due, "blocked": blocked}
        return self._change(lease, {"$set": update}, {"step.uid": planned.uid})

    def record_failed_attempt(self, lease: Lease, planned: PlannedRange, *, wrote: bool) -> PlannedRange:
        """Record a failed attempt and return the range for the next one."""
        after = replace(planned, attempt=planned.attempt + 1, wrote=planned.wrote or wrote)
        self._change(lease, {"$set": {"step": after.to_document()}}, {"step.uid": planned.uid})
        return after

    def record_full_run_due(self, name: str, due: str) -> None:
        """Record why a full run is due; needs no lease."""
        self._collection.update_one({"_id": name}, {"$set": {"due": due}})

    def accept_change(self, name: str, code: str, definition: str) -> None:
        """Accept this code and definition for further increments; existing results stay as they are."""
        self._collection.update_one(
            {"_id": name, "blocked": {"$ne": True}}, {"$set": {"code": code, "definition": definition, "due": ""}}
        )

    def record_key_times(self, name: str, key_times: Iterable[Mapping[str, Any]]) -> None:
        """Record how the keys of each output are read; needs no lease, since every run finds the same."""
        self._collection.update_one({"_id": name}, {"$set": {"key_times": list(key_times)}})

    # Builds

    def reserve_generation(self, lease: Lease) -> int:
        """Return a new generation number, which is never used again for these outputs."""
        return self._change(lease, {"$inc": {"next_generation": 1}}).next_generation - 1

    def record_build(self, lease: Lease, open_build: Build) -> Position:
        return self._change(lease, {"$set": {"making": open_build.to_document()}})

    def discard_build(self, lease: Lease) -> Position:
        """Close a build without finishing it; the next `drop_retired` drops its generation."""
        return self._change(lease, {"$set": {"making": None, "build.cancel": ""}})

    def switch(self, build: Lease, live: Lease, open_build: Build, reached: PositionUpdate) -> Position:
        """Make the build the current generation; both leases must hold.

        A rebuild leaves the recorded code and definition alone, since it keeps the results outside its range.
        """
        set_: dict[str, Any] = {
            "generation": open_build.generation,
            "position": reached.through,
            "complete_through": reached.complete_through,
            "step": None,
            "making": None,
            "build.cancel": "",
            "live.cancel": "",
            "skipped": list(reached.skipped),
            "skipped_count": reached.skipped_count,
        }
        if open_build.mode == "full":
            set_ |= {
                "base": open_build.base,
                "code": open_build.code,
                "definition": open_build.definition,
                "store": open_build.store,
                "epoch": open_build.epoch,
                "version": open_build.version,
                "due": "",
                "blocked": False,
            }
        return self._change(build, {"$set": set_}, {**live.guard, "making.uid": open_build.uid})

    def record_shown(self, name: str, generation: int) -> Position:
        """Record that the views show `generation`, and retire the generation shown before."""
        replaced = {"$cond": [{"$gt": ["$shown", 0]}, [{"n": "$shown", "at": "$$NOW"}], []]}
        retired = {"$concatArrays": [{"$ifNull": ["$retired", []]}, replaced]}
        document = self._update(
            {"_id": name, "generation": generation, "shown": {"$ne": generation}},
            [{"$set": {"retired": retired, "shown": generation}}],
        )
        return Position.from_document(document) if document else self.get(name)

    def record_dropped(self, name: str, generations: Iterable[int]) -> None:
        self._collection.update_one({"_id": name}, {"$pull": {"retired": {"n": {"$in": list(generations)}}}})

    # Cancelling

    def request_cancel(self, name: str, kind: LeaseKind, uid: str) -> bool:
        """Ask the process that performs the range or build `uid` to stop; return False if it is not open."""
        at = "step.uid" if kind == "live" else "making.uid"
        return self._collection.update_one({"_id": name, at: uid}, {"$set": {f"{kind}.cancel": uid}}).matched_count == 1

    def now(self) -> datetime:
        """Return the time of MongoDB's clock, timezone-aware."""
        return server_time(self._collection.database)


def _free(kind: str, waiter: str = "") -> dict[str, Any]:
    """Return a filter: the lease is not held, and it is not another waiter's turn."""
    return {"$and": [_unheld(kind), _turn_of(kind, waiter)]}


def _unheld(kind: str) -> dict[str, Any]:
    """Return a filter: the lease is not held, or has expired. ("" is true to MongoDB's `$not`.)"""
    unheld = {"$eq": [{"$ifNull": [f"${kind}.holder", ""]}, ""]}
    return {"$expr": {"$or": [unheld, {"$lte": [f"${kind}.until", "$$NOW"]}]}}


def _turn_of(kind: str, waiter: str) -> dict[str, Any]:
    """Return a filter: it is the turn of `waiter`, or of no one."""
    turn = {"$ifNull": [f"${kind}.turn", ""]}
    over = {"$lte": [f"${kind}.turn_until", "$$NOW"]}
    return {"$expr": {"$or": [{"$in": [turn, ["", {"$literal": waiter}]]}, over]}}


def server_time(database: Database[dict[str, Any]]) -> datetime:
    """Return the time of MongoDB's clock, timezone-aware."""
    found: datetime = database.command("hello", codec_options=CodecOptions(tz_aware=True))["localTime"]
    return found
