"""Partitions of the event store: collections by id range, and the view `event` over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        """Its place in the order of partitions, from 1."""
        return int(self.name.removeprefix(f"{VIEW}."))


def partition_name(number: int) -> str:
    """Name of the collection of partition `number`."""
    return f"{VIEW}.{number}"


def read_partitions(entries: Sequence[dict[str, Any]]) -> tuple[Partition, ...]:
    """Partitions as the store document has them, in rising order."""
    found = (Partition(partition_name(entry["n"]), int(entry["first"])) for entry in entries)
    return tuple(sorted(found, key=lambda partition: partition.first_id))


def partition_of(partitions: Sequence[Partition], id_: int) -> Partition:
    """The partition that `id_` belongs to. Raises `StoreChangedError` when it is not stored any more."""
    for partition in reversed(partitions):
        if partition.first_id <= id_:
            return partition
    raise StoreChangedError(f"id {id_} lies below every partition that is stored: its partition was dropped")


def create_partition(database: Database[Any], name: str) -> None:
    """Make the collection and its index if they are missing; safe to repeat."""
    _create(database, name)
    database[name].create_index("id", name="id", unique=True, partialFilterExpression={"id": {"$exists": True}})


def create_view(database: Database[Any], partitions: Sequence[Partition]) -> None:
    """Make or switch the view `event` so that it is the union of `partitions`, in order of id."""
    oldest, *later = [partition.name for partition in partitions]
    pipeline = [{"$unionWith": name} for name in later]
    if _create(database, VIEW, viewOn=oldest, pipeline=pipeline):
        return
    options = next(database.list_collections(filter={"name": VIEW}))
    if options["type"] != "view":
        raise StoreChangedError(
            f"{database.name}.{VIEW} is a collection, and Zarkov keeps a view of that name: rename it, then take its "
            "events in with `manage.py importevents`, or set another mongo_database"
        )
    if options["options"].get("viewOn") != oldest or options["options"].get("pipeline") != pipeline:
        database.command("collMod", VIEW, viewOn=oldest, pipeline=pipeline)


def create_collection(database: Database[Any], name: str) -> None:
    """Make a collection if it is missing: what is written in a transaction should not be made in it."""
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
