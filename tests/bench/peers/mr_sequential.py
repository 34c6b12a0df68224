"""Map-reduce as the textbook has it (sort what the map yields, group, reduce), and MongoDB's own command."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from bson.son import SON
from pymongo import InsertOne
from pymongo.database import Database

MAP_DAY = (
    "function() { emit(this.context.project + '/' + this.timestamp.toISOString().slice(0, 10), 1); }"  # as in Python
)
MAP_USER = "function() { emit(this.context.user, 1); }"
REDUCE = "function(key, values) { return Array.sum(values); }"


def run_sequential(database: Database[Any], map_: Callable[..., Any], reduce: Callable[..., Any], output: str) -> None:
    """The four-line definition over `find()`."""
    found = sorted(map_(database["event.1"].find()), key=itemgetter(0))
    groups = itertools.groupby(found, key=itemgetter(0))
    documents = [{"_id": key, "value": reduce(key, [value for _, value in pairs])} for key, pairs in groups]
    database[output].drop()
    database[output].bulk_write([InsertOne(document) for document in documents], ordered=False)


def run_command(database: Database[Any], map_: str, output: str) -> None:
    """The `mapReduce` command, which runs JavaScript in the server."""
    database.command(
        SON([("mapReduce", "event.1"), ("map", map_), ("reduce", REDUCE), ("out", {"replace": output})]),
        writeConcern={"w": "majority", "j": True},
    )
