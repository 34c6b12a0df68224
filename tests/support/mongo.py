"""Open MongoDB for tests with the read and write concern of the product, so that both see the same data."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database


def open_client(uri: str) -> MongoClient[dict[str, Any]]:
    """Return a client that reads and writes with `majority` and returns aware datetimes.

    Writes with `w: 1`, such as some job records, become readable about 100 ms later: see `make_last`.
    """
    return MongoClient(uri, tz_aware=True, readConcernLevel="majority", w="majority", journal=True)


def make_last(database: Database[dict[str, Any]]) -> None:
    """Wait until clients of `open_client` can read everything written so far by any client."""
    database["tests.nothing"].delete_one(
        {"_id": 0}
    )  # waits for the newest write of all clients, although it deletes nothing
