"""Zarkov's own processes reach an ingester that accepts only clients with keys, using the installation's key file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from pymongo.database import Database

from aggregates.run.outcome import Outcome
from aggregates.services.announcer import Announcer
from aggregates.services.notice_listener import NoticeListener
from ingest.client import AcknowledgedClient
from ingest.http import receiver
from ingest.transport.server_keys import OWN, make_client_keys, make_server_keys
from tests.support.ingest.running import RunningIngester, refusal_reason
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder


@pytest.fixture
def guarded(mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[RunningIngester]:
    """Yield an ingester with keys, at the addresses of the current configuration."""
    folder = HomeFolder(tmp_path / "home")
    make_client_keys(make_server_keys(folder.keys / "ingest.curve", folder.client_keys), OWN)
    config = settings.ZARKOV.model_copy(
        update={"home": folder.root, "mongo_uri": mongo_uri, "mongo_database": database.name}
    )
    with override_settings(ZARKOV=config):
        running = RunningIngester(config.ingest_settings())
        folder.prepare()
        folder.record_addresses(running.ingester.addresses)
        receiver.close()
        yield running
        receiver.close()
        running.stop()


def test_every_process_uses_the_keys_of_the_installation(guarded: RunningIngester) -> None:
    config = settings.ZARKOV
    seen: list[dict[str, Any]] = []
    listener = NoticeListener(lambda: config.connect_address("publish_bind_address"), seen.append, config.client_keys())
    listener.start()
    announcer = Announcer(lambda: config.connect_address("bson_bind_address"), config.client_keys)

    def both_notices_received() -> bool:
        assert receiver.send(b'{"type": "x"}')["accepted"] == 1
        announcer.announce(Outcome("daily", "incremental", "complete"))
        return {notice["$command"] for notice in seen} == {"committed", "agg_complete"}

    eventually(both_notices_received)
    announcer.close()
    listener.stop()
    with AcknowledgedClient(guarded.address("ack"), attempts=1, connect_timeout_s=1) as bare:
        eventually(lambda: "accepts only senders with keys" in refusal_reason(bare))
