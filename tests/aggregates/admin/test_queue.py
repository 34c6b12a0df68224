"""The page of the queue: what runs, what waits, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse

from aggregates import services
from aggregates.models import Run
from aggregates.services import celery_queue
from zarkov_site.celery import BROKER_DATABASE_SUFFIX, app, broker_url

pytestmark = pytest.mark.early
QUEUE = "/admin/aggregates/run/queue/"


@pytest.fixture
def broker_queue(site: Any, mongo_uri: str, database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a function that puts a message into the queue of the real broker."""
    url = broker_url(mongo_uri, database.name)
    monkeypatch.setattr(app.conf, "broker_url", url)
    with app.connection_for_write(url) as connection:
        yield lambda task, *arguments: app.send_task(f"aggregates.schedule.{task}", arguments, connection=connection)
        connection.default_channel.client.client.close()  # kombu leaves it open
    database.client.drop_database(f"{database.name}{BROKER_DATABASE_SUFFIX}")


def test_the_queue_page_shows_running_and_waiting_runs_and_the_last_result_of_each_schedule(
    admin_client, days, broker_queue, database
):
    page = admin_client.get(QUEUE).content.decode()
    assert page.count("Nothing") == 2
    running = services.new_run(days, "full", "admin")
    Run.objects.filter(pk=running.pk).update(state="running", started=running.created, holder="host@1|42|2|ab")
    asked = services.new_run(days, "verify", "api")
    broker_queue("perform", asked.pk)
    broker_queue("run_scheduled", "days")
    broker_queue("verify")
    broker_queue("perform", 10**9)  # belongs to a run that has ended
    lost = services.new_run(days, "incremental", "api")
    ended = services.new_run(days, "incremental", "schedule")
    Run.objects.filter(pk=ended.pk).update(state="error", error="map failed on event 7")
    assert celery_queue.count(database.client) == 4
    assert {(line.what, line.run, line.queued) for line in celery_queue.lines(database.client)} == {
        ("verification", asked, True),
        ("scheduled run", None, True),
        ("scheduled verification of all", None, True),
        ("incremental", lost, False),
    }
    assert celery_queue.queued_runs(database.client) == {asked.pk, 10**9}
    page = admin_client.get(QUEUE).content.decode()
    assert "host, process 42" in page
    assert "scheduled verification of all" in page
    assert "lost by the queue" in page
    assert "map failed on event 7" in page
    assert reverse("admin:aggregates_run_change", args=[running.pk]) in page
    assert QUEUE in admin_client.get(reverse("admin:aggregates_run_changelist")).content.decode()


def test_the_queue_of_another_broker_is_counted_and_an_unreachable_broker_is_reported(
    admin_client, days, database, monkeypatch
):
    monkeypatch.setattr(app.conf, "broker_url", "memory://")
    planned = services.new_run(days, "full", "api")
    assert celery_queue.messages(database.client) is None
    assert [(line.run, line.queued) for line in celery_queue.lines(database.client)] == [(planned, True)]

    def refuse(client: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(celery_queue, "messages", refuse)
    assert "ConnectionError: nobody there" in admin_client.get(QUEUE).content.decode()


def test_the_queue_is_shown_to_users_who_may_view_runs(client, days, broker_queue):
    user = get_user_model().objects.create_user("u", password="u", is_staff=True)
    client.force_login(user)
    assert client.get(QUEUE).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_run"))
    assert client.get(QUEUE).status_code == 200
