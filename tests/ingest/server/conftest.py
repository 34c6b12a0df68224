"""Fixtures shared by tests of the ingester's processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.support.ingest.balanced import Balanced


@pytest.fixture
def balanced(mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[Balanced]:
    """Yield a load balancer with two ingesters."""
    made = Balanced(mongo_uri, database.name, tmp_path / "home")
    yield made
    if made.process.poll() is None:
        made.stop()
