"""Lists and actions on many rows hold up no other request, and are bounded where one transaction does it all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from aggregates import services
from aggregates.admin.rows import MOST_DELETED
from aggregates.models import AggDef, Chart, Dashboard
from aggregates.web import mongo
from aggregates.web.pages.views import PER_PAGE
from ingest import turn
from tests.support.aggregates.event_source import Producer

TASK = "tests.support.aggregates.tasks.CountByDay"
COUNT = PER_PAGE + 1
USERS = reverse("admin:auth_user_changelist")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    mongo.close()


@pytest.fixture
def pauses(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Yield a list to which every pause of a turn is added, of which each row may have one."""
    found: list[float] = []

    class Clock:
        sleep, monotonic = found.append, turn.time.monotonic

    monkeypatch.setattr(turn, "SHORT_TURN_S", 0.0)
    monkeypatch.setattr(turn, "time", Clock)
    return found


def make_aggdefs(count: int) -> None:
    AggDef.objects.bulk_create(AggDef(name=f"n{i:04}", task_name=TASK) for i in range(count))


def test_the_definitions_are_listed_in_turns(admin_client: Client, pauses: list[float]) -> None:
    make_aggdefs(COUNT)
    found = admin_client.get("/api/v1/aggdefs/").json()["aggdefs"]
    assert [each["name"] for each in found] == [f"n{i:04}" for i in range(COUNT)]
    assert found[7] == admin_client.get("/api/v1/aggdefs/n0007/").json()
    assert len(pauses) >= COUNT // 100


def test_an_action_on_many_aggregates_has_a_pause_after_each(
    admin_client: Client, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_aggdefs(5)
    monkeypatch.setattr(services, "set_enabled", lambda aggdef, enabled: None)
    for count, action in enumerate(("pause", "resume"), 1):
        chosen = {"action": action, "select_across": "1", "_selected_action": ["1"]}
        assert admin_client.post(reverse("admin:aggregates_aggdef_changelist"), chosen).status_code == 302
        assert len(pauses) == 5 * count


@pytest.mark.parametrize(("model", "path"), [(Chart, "/charts/"), (Dashboard, "/dashboards/")])
def test_a_list_of_many_has_pages(admin_client: Client, producer: Producer, model: Any, path: str) -> None:
    model.objects.bulk_create(model(slug=f"s{i}", title=f"T {i:04}") for i in range(COUNT))
    texts = [admin_client.get(f"{path}?page={page}").content.decode() for page in ("", "1", "2", "99", "x")]
    assert [len(re.findall(r"<strong>T \d", text)) for text in texts] == [PER_PAGE, PER_PAGE, 1, 1, PER_PAGE]
    assert f"1 to {PER_PAGE} of {COUNT}" in texts[0] and 'href="?page=2"' in texts[0]
    assert 'href="?page=1"' in texts[2] and "Next" not in texts[2]


def test_more_rows_than_a_transaction_should_have_are_not_deleted(admin_client: Client, producer: Producer) -> None:
    User.objects.bulk_create(User(username=f"u{i}") for i in range(MOST_DELETED))
    chosen = {"action": "delete_selected", "select_across": "1", "_selected_action": ["1"], "post": "yes"}
    answer = admin_client.post(USERS, chosen, follow=True)
    assert f"{MOST_DELETED + 1} are selected, and at most {MOST_DELETED}" in answer.content.decode()
    assert User.objects.count() == MOST_DELETED + 1
    few = admin_client.post(f"{USERS}?q=u1", {**chosen, "post": ""}).content.decode()
    assert "Are you sure" in few and "select fewer" not in few
    admin_client.post(f"{USERS}?q=u1", chosen)
    assert not User.objects.filter(username__startswith="u1").exists() and User.objects.filter(username="u2").exists()
