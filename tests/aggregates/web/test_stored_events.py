"""Pages of stored events: bounded in number and in bytes."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from aggregates.web import mongo, stored_events

pytestmark = pytest.mark.django_db
LARGE = "x" * 2**20


@pytest.fixture
def database(open_site: Any) -> Any:
    """Return the site's database, with forty events of 1 MiB."""
    found = mongo.database()
    found["event.1"].insert_many({"_id": number, "type": "t", "extra": LARGE} for number in range(1, 41))
    return found


def test_a_page_of_large_events_is_shorter_and_says_that_there_are_more(database: Any) -> None:
    page = stored_events.latest_page(database, 1000)
    assert 0 < len(page.events) < 40
    assert page.size_bytes <= stored_events.MAX_BYTES + 2 * 16 * 2**20
    assert page.may_have_more


def test_all_large_events_are_read_page_by_page(database: Any, client: Client) -> None:
    seen: list[int] = []
    cursor = ""
    while cursor is not None:
        answer = client.get("/api/v1/events/", {"limit": 1000, "cursor": cursor}).json()
        seen += [event["_id"] for event in answer["events"]]
        cursor = answer["next"]
    assert seen == list(range(40, 0, -1))


def test_a_page_of_small_events_has_as_many_as_asked_for(database: Any) -> None:
    assert [event["_id"] for event in stored_events.latest(database, 3, below=10)] == [9, 8, 7]
