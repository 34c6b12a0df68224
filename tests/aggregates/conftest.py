"""Fixtures for aggregate tests: a database, an event store, an inline engine and a run context per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from aggregates.definition.definition import Definition
from aggregates.process_connections import process_connections, reset
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision
from aggregates.run.full import full_run
from aggregates.run.incremental import refresh
from aggregates.run.outcome import Outcome
from aggregates.run.verify import verify
from ingest.store.store import Store, connect
from mapreduce.engine import Engine, open_engine
from tests.support.aggregates.definitions import MODULES, engine_settings
from tests.support.aggregates.event_source import Producer
from tests.support.aggregates.webhook_server import hooked


@pytest.fixture
def store(mongo_uri: str, database: Database[dict[str, Any]]) -> Iterator[Store]:
    opened = connect(mongo_uri, database.name)
    yield opened
    opened.connection.close()


@pytest.fixture
def producer(store: Store) -> Producer:
    return Producer(store)


@pytest.fixture
def engine(mongo_uri: str, database: Database[dict[str, Any]], tmp_path: Path) -> Iterator[Engine]:
    with open_engine(engine_settings(mongo_uri, database.name, tmp_path / "zmr")) as opened:
        yield opened


@pytest.fixture
def run_context(database: Database[dict[str, Any]], store: Store, producer: Producer, engine: Engine) -> RunContext:
    return RunContext(database, store, engine, MODULES, durable_jobs=False)


@pytest.fixture
def run(run_context: RunContext) -> Callable[[Definition], Outcome]:
    """Return a function that makes an aggregate current, by an incremental or a full run."""

    def perform(definition: Definition) -> Outcome:
        done = refresh(run_context, definition)
        return full_run(run_context, definition) if isinstance(done, Decision) else done

    return perform


@pytest.fixture
def right(run_context: RunContext) -> Callable[[Definition], None]:
    """Return a function that asserts that an aggregate equals its recount."""

    def check(definition: Definition) -> None:
        comparison = verify(run_context, definition)
        assert comparison.ok, [d.sentence() for d in comparison.differences] or comparison.refused

    return check


@pytest.fixture
def hook() -> Iterator[Any]:
    """Yield a web server that accepts alerts."""
    yield from hooked()


@pytest.fixture
def site(settings: Any, db: None, mongo_uri: str, database: Database[dict[str, Any]], tmp_path: Path) -> Iterator[Any]:
    """Configure Django with an empty MongoDB database, the inline engine and the test tasks."""
    config = settings.ZARKOV
    settings.ZARKOV = config.model_copy(
        update={
            "home": tmp_path / "home",
            "mongo_uri": mongo_uri,
            "mongo_database": database.name,
            "task_modules": list(MODULES),
            "zmr": config.zmr.model_copy(update={"engine": "inline"}),
        }
    )
    reset()
    process_connections().run_context.store.prepare()  # type: ignore[attr-defined]
    yield settings
    reset()
