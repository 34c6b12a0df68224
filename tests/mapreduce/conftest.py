"""Fixtures for engine settings per test, and for both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from mapreduce.engine import Engine, open_engine
from mapreduce.settings import EngineSettings
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import make_events

TASKS = "tests.support.mapreduce.tasks"


@pytest.fixture
def make_settings(tmp_path: Path, mongo_uri: str, database: Database[dict[str, Any]]) -> Callable[..., EngineSettings]:
    """Return a function that makes settings for this test's database and folder; keyword arguments override."""

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


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Cluster]:
    """Yield a router and two workers that no test disturbs, for tests of results."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), mongo_uri, "test_zmr_shared", map_job_size=1_000)
    try:
        yield cluster.start(2)
    finally:
        cluster.stop()


@pytest.fixture
def cluster(tmp_path: Path, mongo_uri: str, database: Database[dict[str, Any]]) -> Iterator[Cluster]:
    """Yield a cluster for this test, not started; the test may do anything to it."""
    cluster = Cluster(tmp_path / "cluster", mongo_uri, database.name, map_job_size=100)
    yield cluster
    cluster.stop()


@pytest.fixture(params=["inline", "zmq"])
def engine(request: pytest.FixtureRequest, make_settings: Callable[..., EngineSettings]) -> Iterator[Engine]:
    """Yield each engine in turn, so that the same tests of results run with both."""
    if request.param == "zmq":
        yield request.getfixturevalue("shared_cluster").engine
        return
    with open_engine(make_settings(map_job_size=1_000)) as found:
        yield found


@pytest.fixture
def events(database: Database[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return 5,000 events in two partitions, with ids from 1 and one gap."""
    found = make_events(5_000)
    database["event.1"].insert_many([event for event in found if event["_id"] <= 3_000])
    database["event.2"].insert_many([event for event in found if event["_id"] > 3_000])
    return found
