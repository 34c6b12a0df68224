"""Partitions of the event store: one collection per id range, and the view `event` over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import DESCENDING
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

from ingest.exceptions import StoreChangedError

VIEW = "event"
_NAMESPACE_EXISTS = 48


@dataclass(frozen=True, slots=True)
class Partition:
    """A collection that holds the events from `first_id` up to the next partition's."""

    name: str
    first_id: int

    @property
    def number(self) -> int:
        """Return the number in the name of the collection, from 1."""
        return int(self.name.removeprefix(f"{VIEW}."))


def partition_name(number: int) -> str:
    return f"{VIEW}.{number}"


def read_partitions(entries: Sequence[dict[str, Any]]) -> tuple[Partition, ...]:
    """Return the partitions listed in the store document, in ascending order of id."""
    found = (Partition(partition_name(entry["n"]), int(entry["first"])) for entry in entries)
    return tuple(sorted(found, key=lambda partition: partition.first_id))


def partition_of(partitions: Sequence[Partition], id_: int) -> Partition:
    """Return the partition that `id_` belongs to. Raise `StoreChangedError` if it is no longer stored."""
    for partition in reversed(partitions):
        if partition.first_id <= id_:
            return partition
    raise StoreChangedError(f"id {id_} is below all stored partitions: its partition was dropped")


def stored_numbers(database: Database[Any]) -> list[int]:
    """Return the numbers of all partitions whose collection exists, in ascending order."""
    names = database.list_collection_names(filter={"name": {"$regex": rf"^{VIEW}\.[0-9]+$"}})
    return sorted(int(name.removeprefix(f"{VIEW}.")) for name in names)


def following_id(database: Database[Any], names: Iterable[str]) -> int:
    """Return the id after the highest one in the named partitions."""
    highest = [database[name].find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)]) for name in names]
    return max((int(found["_id"]) for found in highest if found), default=0) + 1


def create_partition(database: Database[Any], name: str) -> None:
    """Create the collection and its index if they are missing; safe to repeat."""
    _create(database, name)
    database[name].create_index("id", name="id", unique=True, partialFilterExpression={"id": {"$exists": True}})


def create_view(database: Database[Any], partitions: Sequence[Partition]) -> None:
    """Create or update the view `event` so that it is the union of `partitions`, in order of id."""
    oldest, *later = [partition.name for partition in partitions]
    pipeline = [{"$unionWith": name} for name in later]
    if _create(database, VIEW, viewOn=oldest, pipeline=pipeline):
        return
    options = next(database.list_collections(filter={"name": VIEW}))
    if options["type"] != "view":
        raise StoreChangedError(
            f"{database.name}.{VIEW} is a collection, but Zarkov needs a view of that name: rename it, then import its "
            "events with `manage.py importevents`, or set another mongo_database"
        )
    if options["options"].get("viewOn") != oldest or options["options"].get("pipeline") != pipeline:
        database.command("collMod", VIEW, viewOn=oldest, pipeline=pipeline)


def create_collection(database: Database[Any], name: str) -> None:
    """Create a collection if it is missing, so that no transaction has to."""
    _create(database, name)


def _create(database: Database[Any], name: str, **options: Any) -> bool:
    try:
        database.create_collection(name, check_exists=False, **options)
    except CollectionInvalid:
        return False
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise
        return False
    return True
