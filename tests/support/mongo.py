"""How tests look at MongoDB: as the code does, so that neither sees what the other does not see yet."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database


def open_client(uri: str) -> MongoClient[dict[str, Any]]:
    """Return a client that reads what lasts (`majority`), writes so that it lasts, and gives aware datetimes.

    What was written with `w: 1`, as some records of jobs are, is read some 100 ms later: see `make_last`.
    """
    return MongoClient(uri, tz_aware=True, readConcernLevel="majority", w="majority", journal=True)


def make_last(database: Database[dict[str, Any]]) -> None:
    """Wait until all that was written so far, by whomever, is read by clients of `open_client`."""
    database["tests.nothing"].delete_one({"_id": 0})  # waits for the newest write of all, although it deletes nothing
