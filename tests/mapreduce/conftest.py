"""Engine settings of a test's own, and both engines behind one fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from mapreduce.settings import EngineSettings

TASKS = "tests.mapreduce.tasks"


@pytest.fixture
def make_settings(tmp_path: Path, mongo_uri: str, database: Database[dict[str, Any]]) -> Callable[..., EngineSettings]:
    """Makes settings for this test's database and folder; keyword arguments override."""

    def make(**changes: Any) -> EngineSettings:
        values: dict[str, Any] = {
            "engine": "inline",
            "req_bind": "tcp://127.0.0.1:0",
            "worker_bind": "tcp://127.0.0.1:0",
            "req_uri": lambda: "tcp://127.0.0.1:1",
            "worker_uri": lambda: "tcp://127.0.0.1:1",
            "mongo_address": lambda: mongo_uri,
            "mongo_database": database.name,
            "job_root": tmp_path / "zmr",
            "allowed_modules": (TASKS,),
        }
        return EngineSettings(**{**values, **changes})

    return make
