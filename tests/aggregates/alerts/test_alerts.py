"""Mail and webhook alerts: sent once per change of state, retried until accepted, and never delaying a refresh."""

from __future__ import annotations

import math
import socketserver
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from aggregates import services
from aggregates.alerts import service
from aggregates.alerts.condition import FAILING, LAGGING, WRONG, AggregateFacts, changes, conditions
from aggregates.alerts.loop import AlertLoop
from aggregates.alerts.service import deliver, record_changes
from aggregates.models import AggDef, Alert
from aggregates.process_connections import process_connections
from tests.support.aggregates.event_source import Producer, event
from tests.support.aggregates.webhook_server import served
from zarkov_site.config.section import NotifyConfig

NOW = timezone.now()
TASK = "tests.support.aggregates.tasks.CountByDay"


def known(**more: Any) -> AggregateFacts:
    plain: dict[str, Any] = {"name": "days", "enabled": True, "realtime": True, "failing": False, "failures": 0}
    plain |= {
        "full_due": "",
        "last_error": "",
        "behind": 0,
        "complete_through": NOW,
        "verified_ok": None,
        "verification": "",
    }
    return AggregateFacts(**plain | more)


class Mail(socketserver.StreamRequestHandler):
    """The part of RFC 5321 that a client needs; the server keeps what was delivered."""

    def handle(self) -> None:
        server: Any = self.server
        self.say("220 test")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(":")[0].split(" ")[0].upper()
            if verb == "DATA":
                self.say("354 go on")
                lines = []
                while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                    lines.append(text)
                server.mails.append("\n".join(lines))
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            elif verb == "RCPT" and server.refuse:
                self.say("451 later")
            else:
                self.say("250 test")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mailbox() -> Iterator[Any]:
    server: Any = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    server.mails, server.refuse, server.daemon_threads = [], False, True
    yield from served(server)


@pytest.fixture
def channels(site: Any, mailbox: Any, hook: Any) -> Any:
    """Configure both channels."""
    notify = NotifyConfig(
        email=["ops@example.org"],
        smtp_url=f"smtp://127.0.0.1:{mailbox.server_address[1]}",
        webhook=hook.url,
        lag_s=60,
    )
    site.ZARKOV = site.ZARKOV.model_copy(update={"notify": notify})
    return site


@pytest.fixture
def days(channels: Any) -> AggDef:
    return services.define(name="days", task_name=TASK)


def fail(aggdef: AggDef, times: int = 1) -> None:
    for _ in range(times):
        services.record_failure(aggdef, ValueError("map failed on document 7\nmore"))


@pytest.mark.parametrize(
    ("state", "kinds"),
    [
        ({}, []),
        ({"failing": True, "failures": 1}, []),  # a realtime aggregate is retried at once
        ({"failing": True, "failures": 2}, [FAILING]),
        ({"failing": True, "failures": 1, "realtime": False}, [FAILING]),
        ({"full_due": "the code has changed"}, [FAILING]),
        ({"behind": 5, "complete_through": NOW - timedelta(seconds=61)}, [LAGGING]),
        ({"behind": 5, "complete_through": NOW - timedelta(seconds=59)}, []),
        ({"behind": 0, "complete_through": NOW - timedelta(days=9)}, []),  # no event has arrived since
        ({"behind": 5, "complete_through": NOW - timedelta(days=9), "realtime": False}, []),
        ({"verified_ok": False, "verification": "days: 3 differences"}, [WRONG]),
        ({"enabled": False, "failing": True, "failures": 9, "verified_ok": False}, [WRONG]),
    ],
)
def test_conditions_follow_from_the_status(state: dict[str, Any], kinds: list[str]) -> None:
    assert sorted(conditions(known(**state), NOW, 60)) == sorted(kinds)


def test_a_lag_is_not_reported_without_a_threshold():
    assert conditions(known(behind=5, complete_through=NOW - timedelta(days=9)), NOW, 0) == {}


def test_only_changes_are_reported():
    assert changes([FAILING], {FAILING: "still"}, "days") == []
    new = changes([FAILING], {WRONG: "differs"}, "days")
    assert [(change.kind, change.raised) for change in new] == [(WRONG, True), (FAILING, False)]


def test_a_failure_and_its_recovery_are_reported_once_by_mail_and_webhook(days, mailbox, hook):
    fail(days)
    assert record_changes() == 1
    assert record_changes() == 0
    assert deliver() == 2
    assert deliver() == 0
    assert "Subject: [zarkov] days: failing" in mailbox.mails[0]
    assert "To: ops@example.org" in mailbox.mails[0]
    assert "map failed on document 7" in mailbox.mails[0]
    message, uid = hook.calls[0]
    assert (message["aggregate"], message["kind"], message["event"]) == ("days", "failing", "raised")
    assert message["uid"] == uid
    AggDef.objects.update(state=AggDef.State.OK, failures=0)
    assert record_changes() == 1
    assert deliver() == 2
    assert hook.calls[1][0]["event"] == "recovered"
    assert "days runs again" in mailbox.mails[1]
    assert not Alert.objects.filter(sent=None).exists()


def test_a_message_links_to_the_page_of_its_aggregate_if_there_is_a_public_url(days, channels, mailbox, hook):
    channels.ZARKOV = channels.ZARKOV.model_copy(update={"public_url": "https://stats.example.org/zarkov"})
    fail(days, 2)
    record_changes()
    assert deliver() == 2
    page = reverse("admin:aggregates_aggdef_change", args=[days.pk])
    assert hook.calls[0][0]["url"] == f"https://stats.example.org/zarkov{page}"
    assert f"https://stats.example.org/zarkov{page}" in mailbox.mails[0].replace("=\r\n", "")


def test_two_concurrent_checks_report_a_change_once(days, monkeypatch):
    fail(days)
    stale = list(AggDef.objects.all())

    class StaleQuerySet:
        def iterator(self, chunk_size: int) -> list[AggDef]:
            return stale

    found = AggDef.objects.filter
    monkeypatch.setattr(AggDef.objects, "filter", lambda *a, **k: StaleQuerySet() if a else found(**k))
    assert [record_changes(), record_changes()] == [1, 0]
    assert Alert.objects.count() == 2


def test_a_rejected_message_is_sent_again_later_and_no_other_is(days, mailbox, hook):
    fail(days)
    record_changes()
    mailbox.refuse, hook.answers[:] = True, [500, 302]
    assert deliver() == 0
    assert [alert.attempts for alert in Alert.objects.all()] == [1, 1]
    assert {alert.last_error[:4] for alert in Alert.objects.all()} == {"mail", "webh"}
    assert deliver() == 0  # the pause has not elapsed
    later = timezone.now() + timedelta(seconds=6)
    assert deliver(later) == 0
    mailbox.refuse = False
    assert deliver(later + timedelta(seconds=11)) == 2
    assert len(mailbox.mails) == len(hook.calls) == 1
    assert all(alert.sent and not alert.last_error for alert in Alert.objects.all())


def test_a_message_is_dropped_after_a_day(days, hook):
    fail(days)
    record_changes()
    Alert.objects.update(created=timezone.now() - timedelta(hours=25))
    hook.answers[:] = [500]
    deliver()
    assert Alert.objects.get(channel="webhook").given_up
    assert Alert.objects.get(channel="mail").sent


def test_an_unreachable_server_costs_one_attempt_per_call(days, channels):
    notify = channels.ZARKOV.notify.model_copy(
        update={"smtp_url": "smtp://127.0.0.1:1", "email": ["a@b"], "webhook": None}
    )
    channels.ZARKOV = channels.ZARKOV.model_copy(update={"notify": notify})
    for number in range(3):
        fail(services.define(name=f"more{number}", task_name=TASK))
    assert record_changes() == 3
    assert deliver() == 0
    assert sorted(alert.attempts for alert in Alert.objects.all()) == [0, 0, 1]


def test_a_lag_and_its_end_are_reported(days, hook):
    producer = Producer(process_connections().run_context.store)
    producer.send(event())
    services.run_now(days)
    AggDef.objects.update(realtime=True)
    producer.send(event(), event())
    assert record_changes() == 0
    later = timezone.now() + timedelta(seconds=90)
    assert record_changes(later) == 1
    days.refresh_from_db()
    services.run_now(days)
    assert record_changes(later) == 1
    deliver(later)
    assert [call["event"] for call, _ in hook.calls] == ["raised", "recovered"]
    assert "2 events behind; 60 s are allowed" in hook.calls[0][0]["text"]


@pytest.mark.parametrize("lag_s", [math.inf, 1e300])
def test_a_lag_that_no_aggregate_can_have_is_never_reported_and_stops_nothing(channels, days, lag_s):
    notify = channels.ZARKOV.notify.model_copy(update={"lag_s": lag_s})
    channels.ZARKOV = channels.ZARKOV.model_copy(update={"notify": notify})
    fail(days, 2)
    assert record_changes() == 1


def test_a_failed_verification_is_reported(days, database, hook):
    Producer(process_connections().run_context.store).send(event())
    services.run_now(days)
    database["zgen.days.1"].update_many({}, {"$set": {"value": 5}})
    services.verify_now(days)
    assert AlertLoop().run_once() == 2
    assert hook.calls[0][0]["kind"] == "wrong"
    database["zgen.days.1"].update_many({}, {"$set": {"value": 1}})
    services.verify_now(days)
    AlertLoop().run_once()
    assert hook.calls[1][0]["event"] == "recovered"


def test_without_channels_nothing_is_recorded_and_a_channel_added_later_gets_what_still_applies(days, channels):
    whole = channels.ZARKOV
    channels.ZARKOV = whole.model_copy(update={"notify": NotifyConfig()})
    fail(days)
    assert record_changes() == 0
    channels.ZARKOV = whole
    assert record_changes() == 1


def test_an_error_during_a_check_does_not_end_the_loop(days, hook, monkeypatch):
    def refuse(**rest: Any) -> None:
        raise OperationalError("database is locked")

    fail(days)
    with monkeypatch.context() as broken:
        broken.setattr(AggDef.objects, "filter", refuse)
        assert AlertLoop().run_once() == 0
    assert AlertLoop().run_once() == 2


def test_no_celery_task_sends_alerts(site):
    PeriodicTask.objects.create(
        name="aggregates: tell what is wrong",
        task="aggregates.schedule.alert",
        interval=IntervalSchedule.objects.create(every=15, period=IntervalSchedule.SECONDS),
    )
    call_command("migrate", verbosity=0)
    assert not PeriodicTask.objects.filter(task__contains="alert").exists()


def test_an_aggregate_or_message_on_which_our_code_fails_holds_up_no_other(days, hook, monkeypatch):
    other = services.define(name="other", task_name=TASK, realtime=True)
    for aggdef in (days, other):
        fail(aggdef, 2)
    AggDef.objects.filter(name="days").update(raised_alerts=["failing", {"odd": 1}])
    assert record_changes() == 1  # that of `other`
    AggDef.objects.filter(name="days").update(raised_alerts=[])
    assert record_changes() == 1
    sound = service._message

    def message(alert: Alert) -> Any:
        if alert.aggdef.name == "days":
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return sound(alert)

    monkeypatch.setattr(service, "_message", message)
    for _ in range(3):
        deliver()
    assert {call["aggregate"] for call, _ in hook.calls} == {"other"}
    left = Alert.objects.filter(sent__isnull=True)
    assert {alert.aggdef.name for alert in left} == {"days"}
    assert all("surrogates" in alert.last_error for alert in left)
