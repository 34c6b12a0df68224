"""Fixtures for tests of a whole system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.support.mongo import open_client
from tests.support.system import System, running


@pytest.fixture(scope="session")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the current folder of the system's commands, empty except for files that a test writes."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, work_folder: Path) -> Iterator[System]:
    """Yield a system with the sample; tests may add to it."""
    home = tmp_path_factory.mktemp("system") / "home"
    with running(home, cwd=work_folder, ZARKOV_TASK_MODULES="my.tasks") as made:
        yield made


@pytest.fixture(scope="module")
def system_database(system: System) -> Iterator[Database[dict[str, Any]]]:
    """Yield the MongoDB database of the module's system."""
    with open_client(system.folder.mongo_uri()) as client:
        yield client["zarkov"]
