"""Celery's MongoDB transport."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from zarkov_site.processes.celery_transport import Channel, Transport


@pytest.mark.parametrize("seen_by", ["the driver", "the server"])
def test_a_channel_opens_although_another_process_creates_the_collection_at_the_same_time(
    database: Database[Any], monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    database.create_collection(Channel.broadcast_collection)
    monkeypatch.setattr(Database, "list_collection_names", lambda *_args, **_named: [])
    if seen_by == "the server":
        monkeypatch.setattr(Database, "_list_collection_names", lambda *_args, **_named: [])
    assert Transport.Channel is Channel
    Channel._create_broadcast(Channel.__new__(Channel), database)
