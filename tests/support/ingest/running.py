"""Run an ingester in a thread, and read what happened to its input."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import DeliveryError, IngesterFailedError
from ingest.server.ingester import Ingester
from ingest.settings import IngestSettings, JournalSettings
from tests.support.waiting import WITHIN_S

ANYWHERE = "tcp://127.0.0.1:0"


def refusal_reason(client: AcknowledgedClient | ZarkovClient) -> str:
    """Return why an event of `client` is refused; on a busy machine this may be that no ingester answers yet."""
    with pytest.raises(DeliveryError) as caught:
        client.event("refused", {})
    return str(caught.value)


def events(database: Database[Any]) -> list[dict[str, Any]]:
    """Return the stored events in order of their ids."""
    return list(database["event"].find(sort=[("_id", 1)]))


def types(database: Database[Any]) -> list[str]:
    """Return the types of the stored events in order of their ids."""
    return [event["type"] for event in events(database)]


def sums(database: Database[Any]) -> dict[str, int]:
    """Return the totals of all verdicts, compacted ones included."""
    found = [*database["ingest.verdict"].find(), *database["ingest.journal"].find()]
    return {name: sum(v.get(name, 0) for v in found) for name in ("stored", "duplicates", "quarantined")}


class RunningIngester:
    """Run an ingester in its own thread, because the gevent loop belongs to its thread."""

    def __init__(self, settings: IngestSettings, **options: Any) -> None:
        self.ingester = Ingester(settings, **options)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.failure: IngesterFailedError | None = None  # set if one of its parts failed
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(WITHIN_S)
        if self._error:
            self._thread.join(WITHIN_S)
            raise self._error

    def _run(self) -> None:
        from gevent.hub import get_hub

        try:
            self.ingester.start()
        except BaseException as error:  # noqa: BLE001 - raised in the test
            self._error = error
            self._ready.set()
            return
        self._ready.set()
        try:
            self.ingester.run()
        except IngesterFailedError as error:
            self.failure = error
        get_hub().destroy(destroy_loop=True)

    def address(self, receiver: str) -> str:
        return self.ingester.addresses[f"{receiver}_bind_address"]

    def wait_until_it_ends(self) -> None:
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.ingester.request_stop()
            self._thread.join(WITHIN_S)
            assert not self._thread.is_alive()


Start = Callable[..., RunningIngester]  # the fixture `start_ingester`: settings and options to a running ingester


def running_anywhere(mongo_uri: str, database: str, journal: Path) -> RunningIngester:
    """Run an ingester on free ports."""
    return RunningIngester(
        IngestSettings(
            bson_bind_address=ANYWHERE, json_bind_address=ANYWHERE, ack_bind_address=ANYWHERE,
            publish_bind_address=ANYWHERE, mongo_address=lambda: mongo_uri, mongo_database=database,
            journal=JournalSettings(journal),
        )
    )  # fmt: skip
