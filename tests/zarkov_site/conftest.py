"""Fixtures for tests of a whole system, which each module starts in a fixture `system` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.support.system import System


@pytest.fixture(scope="module")
def system_database(system: System) -> Iterator[Database[dict[str, Any]]]:
    """Yield the MongoDB database of the module's system."""
    with MongoClient(system.folder.mongo_uri(), tz_aware=True) as client:
        yield client["zarkov"]
