"""Fixtures shared by the ingester tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from pymongo.database import Database

from ingest.settings import IngestSettings, JournalSettings
from ingest.store.store import Store, connect
from tests.support.ingest.mongod import Mongod
from tests.support.ingest.running import ANYWHERE, RunningIngester
from tests.support.waiting import WITHIN_S


@pytest.fixture
def store(mongo_uri: str, database: Database[Any]) -> Iterator[Store]:
    """Yield the prepared event store in the test's database."""
    store = connect(mongo_uri, database.name)
    store.prepare()
    yield store
    store.connection.close()


@pytest.fixture
def journal_settings(tmp_path: Path) -> JournalSettings:
    return JournalSettings(tmp_path / "journal")


@pytest.fixture
def ingest_settings(mongo_uri: str, database: Database[Any], journal_settings: JournalSettings) -> IngestSettings:
    return IngestSettings(
        bson_bind_address=ANYWHERE, json_bind_address=ANYWHERE, ack_bind_address=ANYWHERE,
        publish_bind_address=ANYWHERE, mongo_address=lambda: mongo_uri, mongo_database=database.name,
        journal=journal_settings,
    )  # fmt: skip


@pytest.fixture
def time_to_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stopping ingester commit everything, however slow the disk is; else the next start does the rest."""
    monkeypatch.setattr("ingest.server.ingester.DRAIN_WITHIN_S", WITHIN_S / 3)


@pytest.fixture
def start_ingester(database: Database[Any]) -> Iterator[Callable[..., RunningIngester]]:
    """Yield a function that starts ingesters; stop them at the end, before their database is dropped."""
    started: list[RunningIngester] = []

    def start(settings: IngestSettings, **options: Any) -> RunningIngester:
        started.append(RunningIngester(settings, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """Yield a mongod of this test's own, which the test may halt and kill."""
    made = Mongod(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def ingester(start_ingester: Callable[..., RunningIngester], ingest_settings: IngestSettings) -> RunningIngester:
    return start_ingester(ingest_settings)


@pytest.fixture
def push() -> Iterator[Callable[..., None]]:
    """Push messages to an address."""
    context: zmq.Context[Any] = zmq.Context()

    def send(address: str, *messages: bytes | list[bytes]) -> None:
        with context.socket(zmq.PUSH) as socket:
            socket.connect(address)
            for message in messages:
                socket.send_multipart([message] if isinstance(message, bytes) else message)
            socket.close(linger=60_000)

    yield send
    context.term()
