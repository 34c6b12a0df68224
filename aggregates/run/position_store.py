"""The collection `agg.position`: every change of a position document is one atomic, fenced operation here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import ReturnDocument, WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from aggregates.exceptions import BusyError, LeaseLostError, OutputTakenError, UnknownAggregateError
from aggregates.run.lease_holder import is_dead, new_holder
from aggregates.run.position import Build, Position, RunStep, SlotName

COLLECTION = "agg.position"
LEASE_S = 20.0
TURN_S = 5.0  # how long a slot is left to who waits for it, unless it says so again
MOST_SKIPPED = 1000
DURABLE = WriteConcern(w="majority", j=True)


@dataclass(frozen=True)
class Lease:
    """The right to do what one slot of a position document stands for, as long as its token is the newest."""

    name: str
    slot: SlotName
    token: int
    holder: str

    @property
    def guard(self) -> dict[str, Any]:
        """Condition that holds only while nobody has taken over."""
        return {"_id": self.name, f"{self.slot}.token": self.token}


@dataclass(frozen=True)
class Reached:
    """Where a position stands after a step."""

    through: Any
    complete_through: datetime | None
    skipped: tuple[Any, ...] = ()  # ids passed over in this step, at most a thousand
    skipped_count: int = 0


@dataclass(frozen=True)
class Place:
    """Where an output stands."""

    aggdef: str
    generation: int
    position: Any
    version: str  # of the aggregates that it reads


class PositionStore:
    """Reads and changes position documents. Thread-safe; every method blocks on MongoDB."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._collection = database.get_collection(COLLECTION, write_concern=DURABLE)

    # Reading

    def find(self, name: str) -> Position | None:
        """The position whose first or further output is `name`."""
        document = self._collection.find_one({"_id": name})
        if document and "lead" in document:
            document = self._collection.find_one({"_id": document["lead"]})
        return Position.from_document(document) if document else None

    def of_aggdef(self, aggdef: str) -> Position | None:
        """The position of an AggDef."""
        document = self._collection.find_one({"aggdef": aggdef, "lead": {"$exists": False}})
        return Position.from_document(document) if document else None

    def get(self, name: str) -> Position:
        """Like `find`, but raises `UnknownAggregateError` when there is none."""
        position = self.find(name)
        if position is None:
            raise UnknownAggregateError(f"agg.position has no document {name!r}: was the database emptied meanwhile?")
        return position

    def all(self) -> list[Position]:
        """Every position; their steps come along, so it is not for a list of thousands."""
        return [Position.from_document(d) for d in self._collection.find({"lead": {"$exists": False}})]

    def places(self) -> dict[str, Place]:
        """Where every output stands, by its name, and nothing more of it: quick for thousands."""
        fields = {"aggdef": 1, "lead": 1, "generation": 1, "position": 1, "version": 1}
        documents = {document["_id"]: document for document in self._collection.find({}, fields)}
        found = {}
        for name, document in documents.items():
            lead = documents.get(document.get("lead", name), document)
            found[name] = Place(
                lead["aggdef"], lead.get("generation", 0), lead.get("position"), lead.get("version", "")
            )
        return found

    # Owning outputs

    def claim(self, outputs: Iterable[str], aggdef: str) -> Position:
        """The position of these outputs, made if it is missing; called again it changes nothing.

        Raises `OutputTakenError` when one of them belongs to another AggDef. A new output joins the others' position.
        """
        names = tuple(outputs)
        found = {d["_id"]: d for d in self._collection.find({"_id": {"$in": list(names)}})}
        for name, document in found.items():
            if document["aggdef"] != aggdef:
                raise OutputTakenError(
                    f"output zagg.{name} belongs to the aggregate {document['aggdef']!r}: "
                    f"give {aggdef!r} another output, or delete {document['aggdef']!r} first"
                )
        own = self.of_aggdef(aggdef)
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

    def forget(self, position: Position) -> None:
        """Remove the position and its claims; generations and views are the caller's business."""
        self._collection.delete_many({"aggdef": position.aggdef, "lead": position.name})
        self._collection.delete_one({"_id": position.name})

    # Leases

    def acquire(
        self, name: str, slot: SlotName, lease_s: float = LEASE_S, *, waiter: str = ""
    ) -> tuple[Lease, Position]:
        """Take the lease of `slot`. Raises `BusyError` with the holder while another one has it and lives.

        The same while it is the turn of somebody else than `waiter`: see `line_up`.
        """
        holder = new_holder()
        document = self._take(_free(slot, waiter) | {"_id": name}, slot, holder, lease_s)
        if document is None:
            current = getattr(self.get(name), slot)
            guard: dict[str, Any] = {}
            if current.holder and is_dead(current.holder):
                guard = {f"{slot}.token": current.token, f"{slot}.holder": current.holder, **_turn_of(slot, waiter)}
            elif current.turn and is_dead(current.turn):
                guard = {f"{slot}.turn": current.turn, **_unheld(slot)}
            if guard:
                document = self._take({"_id": name, **guard}, slot, holder, lease_s)
            if document is None:
                raise BusyError(
                    f"zagg.{name} is being worked on by {current.holder or current.turn or 'another process'}"
                )
        return Lease(name, slot, document[slot]["token"], holder), Position.from_document(document)

    def line_up(self, name: str, slot: SlotName, waiter: str, turn_s: float = TURN_S) -> None:
        """Have the slot left to `waiter` once it is free, whoever else looks more often; call again within `turn_s`.

        Without effect while it is somebody else's turn. The turn is over when the lease is taken.
        """
        taken = {
            f"{slot}.turn": {"$literal": waiter},
            f"{slot}.turn_until": {"$add": ["$$NOW", int(turn_s * 1000)]},
        }
        self._collection.update_one({"_id": name, **_turn_of(slot, waiter)}, [{"$set": taken}])

    def acquire_for(self, name: str, step: RunStep, lease_s: float = LEASE_S) -> tuple[Lease, Position] | None:
        """Take the lease of increments and record `step` in one operation.

        None when that is not possible: another process has the lease, a step is open, or the position has moved.
        """
        holder = new_holder()
        condition = {"_id": name, "position": step.start, "generation": step.generation, "step": None, **_free("live")}
        recorded = {"step": {"$literal": step.to_document()}}
        document = self._take({**condition, "shown": step.generation}, "live", holder, lease_s, recorded)
        if document is None:
            return None
        return Lease(name, "live", document["live"]["token"], holder), Position.from_document(document)

    def _take(
        self,
        condition: Mapping[str, Any],
        slot: str,
        holder: str,
        lease_s: float,
        also: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        taken = {
            **(also or {}),
            f"{slot}.token": {"$add": [{"$ifNull": [f"${slot}.token", 0]}, 1]},
            f"{slot}.holder": {"$literal": holder},
            f"{slot}.until": {"$add": ["$$NOW", int(lease_s * 1000)]},
            f"{slot}.turn": "",
        }
        return self._collection.find_one_and_update(condition, [{"$set": taken}], return_document=ReturnDocument.AFTER)

    def renew(self, lease: Lease, lease_s: float = LEASE_S) -> bool:
        """Lengthen the lease from now; False when it was given back, or another holder has taken over."""
        until = {f"{lease.slot}.until": {"$add": ["$$NOW", int(lease_s * 1000)]}}
        held = {**lease.guard, f"{lease.slot}.holder": lease.holder}
        return self._collection.update_one(held, [{"$set": until}]).matched_count == 1

    def release(self, lease: Lease) -> None:
        """Give the lease back; without effect when another holder has taken over."""
        self._collection.update_one(lease.guard, {"$set": {f"{lease.slot}.holder": "", f"{lease.slot}.until": None}})

    def _change(self, lease: Lease, update: Mapping[str, Any], also: Mapping[str, Any] | None = None) -> Position:
        document = self._collection.find_one_and_update(
            {**(also or {}), **lease.guard}, update, return_document=ReturnDocument.AFTER
        )
        if document is None:
            raise LeaseLostError(
                f"zagg.{lease.name}: the lease was taken over by another process, which carries on from here"
            )
        return Position.from_document(document)

    # Increments

    def begin(self, lease: Lease, step: RunStep) -> Position:
        """Record the open increment. Raises `LeaseLostError`; so do all methods below."""
        return self._change(
            lease, {"$set": {"step": step.to_document()}}, {"position": step.start, "generation": step.generation}
        )

    def advance(self, lease: Lease, step: RunStep, reached: Reached, *, release: bool = False) -> Position:
        """Move the position over the step, and close it; with `release` the lease is given back in the same step."""
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
        return self._change(lease, update, {"position": step.start, "step.uid": step.uid})

    def pass_over(self, position: Position, reached: Reached) -> Position | None:
        """Move the position over a range in which there is nothing for this aggregate.

        Needs no lease, as nothing is written but this; None when the position has moved or a step is open. Who holds
        the lease and has planned from the old position finds so when it records its step.
        """
        condition = {
            "_id": position.name,
            "position": position.position,
            "generation": position.generation,
            "step": None,
        }
        update = {"position": reached.through, "complete_through": reached.complete_through}
        document = self._collection.find_one_and_update(
            condition, {"$set": update}, return_document=ReturnDocument.AFTER
        )
        return Position.from_document(document) if document else None

    def abandon(self, lease: Lease, step: RunStep, *, due: str = "", blocked: bool = False) -> Position:
        """Close an open increment that is not to be carried on; with `due`, say why a full run is."""
        update: dict[str, Any] = {"step": None, "live.cancel": ""}
        if due:
            update |= {"due": due, "blocked": blocked}
        return self._change(lease, {"$set": update}, {"step.uid": step.uid})

    def failed(self, lease: Lease, step: RunStep, *, wrote: bool) -> RunStep:
        """Record that an attempt failed; the step, as it is to be tried again."""
        after = replace(step, attempt=step.attempt + 1, wrote=step.wrote or wrote)
        self._change(lease, {"$set": {"step": after.to_document()}}, {"step.uid": step.uid})
        return after

    def say_due(self, name: str, due: str, *, blocked: bool = False) -> None:
        """Say that a full run is due, and whether increments stop until then; needs no lease."""
        update: dict[str, Any] = {"due": due} | ({"blocked": True} if blocked else {})
        self._collection.update_one({"_id": name}, {"$set": update})

    def accept(self, name: str, code: str, definition: str) -> None:
        """Go on with this code and definition; what is in stays as the former ones made it."""
        self._collection.update_one(
            {"_id": name, "blocked": {"$ne": True}}, {"$set": {"code": code, "definition": definition, "due": ""}}
        )

    # Builds

    def number(self, lease: Lease) -> int:
        """A number for a generation that no other one of these outputs ever has."""
        return self._change(lease, {"$inc": {"next_generation": 1}}).next_generation - 1

    def record_build(self, lease: Lease, making: Build) -> Position:
        """Record the build as it is now."""
        return self._change(lease, {"$set": {"making": making.to_document()}})

    def drop_build(self, lease: Lease) -> Position:
        """Close a build that is not to be carried on; its generation is to be dropped."""
        return self._change(lease, {"$set": {"making": None, "build.cancel": ""}})

    def switch(self, build: Lease, live: Lease, making: Build, reached: Reached) -> Position:
        """Make the build the current generation, and give the one before up; both leases must hold.

        A rebuilt range leaves the rest as it was, and with it what is said about its code and definition.
        """
        set_: dict[str, Any] = {
            "generation": making.generation,
            "position": reached.through,
            "complete_through": reached.complete_through,
            "step": None,
            "making": None,
            "build.cancel": "",
            "live.cancel": "",
            "skipped": list(reached.skipped),
            "skipped_count": reached.skipped_count,
        }
        if making.mode == "full":
            set_ |= {
                "base": making.base,
                "code": making.code,
                "definition": making.definition,
                "store": making.store,
                "epoch": making.epoch,
                "version": making.version,
                "due": "",
                "blocked": False,
            }
        return self._change(build, {"$set": set_}, {**live.guard, "making.uid": making.uid})

    def showing(self, name: str, generation: int) -> Position:
        """Record which generation the views show; what was shown before is retired."""
        document = self._collection.find_one_and_update(
            {"_id": name, "generation": generation, "shown": {"$ne": generation}},
            [
                {
                    "$set": {
                        "retired": {
                            "$concatArrays": [
                                {"$ifNull": ["$retired", []]},
                                {
                                    "$cond": [
                                        {"$gt": ["$shown", 0]},
                                        [{"n": "$shown", "at": "$$NOW"}],
                                        [],
                                    ]
                                },
                            ]
                        },
                        "shown": generation,
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )
        return Position.from_document(document) if document else self.get(name)

    def dropped(self, name: str, generations: Iterable[int]) -> None:
        """Record that these retired generations are gone."""
        self._collection.update_one({"_id": name}, {"$pull": {"retired": {"n": {"$in": list(generations)}}}})

    # Cancelling

    def ask_cancel(self, name: str, slot: SlotName, uid: str) -> bool:
        """Ask whoever performs the step or build `uid` to stop; False when it is not open (any more)."""
        at = "step.uid" if slot == "live" else "making.uid"
        return self._collection.update_one({"_id": name, at: uid}, {"$set": {f"{slot}.cancel": uid}}).matched_count == 1

    def now(self) -> datetime:
        """MongoDB's clock."""
        return clock(self._collection.database)


def _free(slot: str, waiter: str = "") -> dict[str, Any]:
    """Condition that the slot may be taken: nobody holds it, and it is nobody else's turn."""
    return {"$and": [_unheld(slot), _turn_of(slot, waiter)]}


def _unheld(slot: str) -> dict[str, Any]:
    """Condition that nobody holds the slot, or whoever does has let it run out. ("" is true to MongoDB's `$not`.)"""
    unheld = {"$eq": [{"$ifNull": [f"${slot}.holder", ""]}, ""]}
    return {"$expr": {"$or": [unheld, {"$lte": [f"${slot}.until", "$$NOW"]}]}}


def _turn_of(slot: str, waiter: str) -> dict[str, Any]:
    """Condition that it is the turn of `waiter`, or nobody's."""
    turn = {"$ifNull": [f"${slot}.turn", ""]}
    over = {"$lte": [f"${slot}.turn_until", "$$NOW"]}
    return {"$expr": {"$or": [{"$in": [turn, ["", {"$literal": waiter}]]}, over]}}


def clock(database: Database[dict[str, Any]]) -> datetime:
    """MongoDB's clock, timezone-aware."""
    found: datetime = database.command("hello", codec_options=CodecOptions(tz_aware=True))["localTime"]
    return found
