"""MongoDB in tests: clients that read and write as the product does, and a mongod that keeps its port."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from tests.support.ports import reserved_ports
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod


def open_client(uri: str) -> MongoClient[dict[str, Any]]:
    """Return a client that reads and writes with `majority` and returns aware datetimes.

    Writes with `w: 1`, such as some job records, become readable up to 100 ms later: see `make_last`.
    """
    return MongoClient(uri, tz_aware=True, readConcernLevel="majority", w="majority", journal=True)


def mongod_at_one_port(folder: HomeFolder) -> LocalMongod:
    """Return a mongod, not started yet, that listens at the same port after each `start`."""
    folder.write(folder.mongo / "uri", f"mongodb://127.0.0.1:{reserved_ports()[0]}")
    return LocalMongod(folder)


def make_last(database: Database[dict[str, Any]]) -> None:
    """Wait until clients of `open_client` can read everything written so far by any client."""
    database["tests.nothing"].delete_one(
        {"_id": 0}
    )  # waits for the newest write of all clients, although it deletes nothing
