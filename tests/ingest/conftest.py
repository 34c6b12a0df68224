"""Parts that the tests of the ingester share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure

from ingest.exceptions import PartFailedError
from ingest.server.ingester import Ingester
from ingest.settings import IngestSettings, JournalSettings
from ingest.store.store import Store, connect

_MADE_MEANWHILE = 166  # what mongod says to who reads a view in the moment in which it is made
ANYWHERE = "tcp://127.0.0.1:0"


def wait_for(condition: Callable[[], Any], within_s: float = 20.0, what: str = "") -> Any:
    """The condition's first true value; fails when it does not come."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OperationFailure as error:
            if error.code != _MADE_MEANWHILE:
                raise
        time.sleep(0.01)
    raise AssertionError(f"not within {within_s} s: {what or condition}")


def sums(database: Database[Any]) -> dict[str, int]:
    """What became of all input, from verdicts and from those that are folded."""
    found = [*database["ingest.verdict"].find(), *database["ingest.journal"].find()]
    return {name: sum(v.get(name, 0) for v in found) for name in ("stored", "duplicates", "quarantined")}


class RunningIngester:
    """An ingester in a thread of its own, as the gevent loop belongs to its thread."""

    def __init__(self, settings: IngestSettings, **options: Any) -> None:
        self.ingester = Ingester(settings, **options)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.failure: PartFailedError | None = None  # a part of it ended by a fault
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20)
        if self._error:
            self._thread.join(20)
            raise self._error

    def _run(self) -> None:
        from gevent.hub import get_hub

        try:
            self.ingester.start()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._error = error
            self._ready.set()
            return
        self._ready.set()
        try:
            self.ingester.run()
        except PartFailedError as error:
            self.failure = error
        get_hub().destroy(destroy_loop=True)

    def address(self, receiver: str) -> str:
        return self.ingester.addresses[f"{receiver}_bind_address"]

    def wait_until_it_ends(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.ingester.request_stop()
            self._thread.join(20)
            assert not self._thread.is_alive()


@pytest.fixture
def store(mongo_uri: str, database: Database[Any]) -> Iterator[Store]:
    """The event store in the test's database, ready for events."""
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
def start_ingester() -> Iterator[Callable[..., RunningIngester]]:
    """Starts ingesters and stops them at the end."""
    started: list[RunningIngester] = []

    def start(settings: IngestSettings, **options: Any) -> RunningIngester:
        started.append(RunningIngester(settings, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def ingester(start_ingester: Callable[..., RunningIngester], ingest_settings: IngestSettings) -> RunningIngester:
    return start_ingester(ingest_settings)
