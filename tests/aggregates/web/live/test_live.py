"""Live streams: channels and hub in this process, and streams of a real gunicorn."""

from __future__ import annotations

import itertools
import json
import select
import socket
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.read_concern import ReadConcern

from aggregates.web.exceptions import UnavailableError
from aggregates.web.live.channel import KEPT_MESSAGES, SendPacing
from aggregates.web.live.feed import StreamMessage, series_change
from aggregates.web.live.hub import Hub, Viewer
from aggregates.web.live.overview_feed import SHOWN_EVENTS, OverviewFeed, choose_events
from aggregates.web.live.stream import HEARTBEAT_S
from tests.support.durations import assert_within
from tests.support.waiting import eventually
from tests.support.web.server import ANSWER_WITHIN_S, Server, write_aggregate

FAST = SendPacing(least_pause_s=0.01, poll_s=0.05, reread_s=60, linger_s=0.2)


class NumberFeed:
    """A feed of one number, which tests change."""

    def __init__(self, name: str = "n") -> None:
        self.name, self.value, self.mark, self.reads = name, 0, 0, 0
        self.error: Exception | None = None

    def concerns(self, notice: Any) -> bool:
        return bool(notice.get("name") == self.name)

    def stamp(self) -> Any:
        return self.mark

    def read(self) -> Any:
        self.reads += 1
        if self.error:
            raise self.error
        return self.value

    def whole(self, state: Any) -> StreamMessage:
        return StreamMessage("whole", json.dumps(state).encode())

    def change(self, before: Any, after: Any) -> StreamMessage | None:
        return None if before == after else StreamMessage("change", json.dumps([before, after]).encode())


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub(FAST)
    yield made
    made.stop()


def next_message(viewer: Viewer) -> tuple[str, Any, str]:
    """Return kind, data and id of the next message."""
    _, event_id, message = eventually(lambda: next(viewer.wait(0.1), None), what="a message")
    return message.kind, json.loads(message.data), event_id


def test_a_viewer_gets_the_state_and_then_each_change(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        assert next_message(viewer)[:2] == ("whole", 0)
        feed.value = 1
        hub.handle_notice({"name": "n"})
        assert next_message(viewer)[:2] == ("change", [0, 1])


def test_notices_about_other_aggregates_cause_no_read(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        next_message(viewer)
        for _ in range(20):
            hub.handle_notice({"name": "other"})
        assert list(viewer.wait(0.1)) == []
        assert feed.reads == 1


def test_many_viewers_of_one_feed_cost_one_read_per_update(hub: Hub) -> None:
    feed = NumberFeed()
    viewers = [hub.watch({"": feed}) for _ in range(100)]
    assert {next_message(viewer)[:2] == ("whole", 0) for viewer in viewers} == {True}
    assert feed.reads == 1
    for value in (1, 2, 3):
        feed.value = value
        hub.handle_notice({"name": "n"})
        assert {json.dumps(next_message(viewer)[:2]) for viewer in viewers} == {
            json.dumps(("change", [value - 1, value]))
        }
    assert feed.reads == 4
    for viewer in viewers:
        viewer.close()


def test_polling_the_stamp_makes_up_for_a_lost_notice(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        next_message(viewer)
        feed.value, feed.mark = 5, 1
        assert next_message(viewer)[:2] == ("change", [0, 5])


def test_a_viewer_that_reconnects_gets_only_missing_messages(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        last = next_message(viewer)[2]
        with hub.watch({"": feed}) as other:
            next_message(other)
            viewer.close()
            for value in (1, 2):
                feed.value = value
                hub.handle_notice({"name": "n"})
                next_message(other)
            with hub.watch({"": feed}, last) as again:
                assert [message.kind for _, _, message in again.wait(1)] == ["change", "change"]
            with hub.watch({"": feed}, "nonsense.1,.,x.y") as stranger:
                assert next_message(stranger)[:2] == ("whole", 2)


def test_a_viewer_that_is_too_far_behind_gets_the_whole_state(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer, hub.watch({"": feed}) as other:
        last = next_message(viewer)[2]
        next_message(other)
        for value in range(1, KEPT_MESSAGES + 5):
            feed.value = value
            hub.handle_notice({"name": "n"})
            next_message(other)
        with hub.watch({"": feed}, last) as again:
            assert next_message(again)[:2] == ("whole", KEPT_MESSAGES + 4)


def test_only_the_last_message_of_a_batch_has_an_id(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer, hub.watch({"": feed}) as other:
        last = next_message(viewer)[2]
        next_message(other)
        for value in (1, 2, 3):
            feed.value = value
            hub.handle_notice({"name": "n"})
            next_message(other)
        with hub.watch({"": feed}, last) as again:
            ids = [event_id for _, event_id, _ in again.wait(1)]
    assert ids[:-1] == ["", ""] and ids[-1]


def test_an_error_is_sent_and_the_channel_recovers(hub: Hub) -> None:
    feed = NumberFeed()
    feed.error = UnavailableError("MongoDB does not answer")
    with hub.watch({"": feed}) as viewer:
        kind, data, _ = next_message(viewer)
        assert (kind, data["error"]["code"]) == ("problem", "unavailable")
        feed.error = None
        hub.handle_notice({"name": "n"})
        eventually(lambda: any(message.kind == "whole" for _, _, message in viewer.wait(0.1)))


def test_the_end_of_an_error_is_sent_although_nothing_changed(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        assert next_message(viewer)[0] == "whole"
        feed.error = UnavailableError("MongoDB does not answer")
        hub.handle_notice({"name": "n"})
        assert next_message(viewer)[0] == "problem"
        feed.error = None
        hub.handle_notice({"name": "n"})
        seen: list[str] = []
        eventually(lambda: seen.extend(m.kind for _, _, m in viewer.wait(0.1)) or "whole" in seen)
        assert "change" not in seen


def test_a_channel_without_viewers_ends_with_its_thread(hub: Hub) -> None:
    before = threading.active_count()
    for number in range(10):
        with hub.watch({"": NumberFeed(f"n{number}")}) as viewer:
            next_message(viewer)
    eventually(lambda: not hub.channels())
    eventually(lambda: threading.active_count() <= before)
    assert hub.reads >= 10


def test_several_feeds_share_one_stream(hub: Hub) -> None:
    one, two = NumberFeed("one"), NumberFeed("two")
    with hub.watch({"a": one, "b": two}) as viewer:
        seen: dict[str, Any] = {}
        eventually(lambda: seen.update({name: m.kind for name, _, m in viewer.wait(0.1)}) or len(seen) == 2)
        two.value = 7
        hub.handle_notice({"name": "two"})
        found: list[Any] = []
        eventually(lambda: found.extend((n, m.kind) for n, _, m in viewer.wait(0.1)) or found)
        assert found == [("b", "change")]


def test_a_stopped_hub_ends_its_streams(hub: Hub) -> None:
    with hub.watch({"": NumberFeed()}) as viewer:
        next_message(viewer)
        hub.stop()
        with pytest.raises(EOFError):
            list(viewer.wait(5))


_points = st.dictionaries(st.integers(0, 40), st.integers(0, 3) | st.none(), max_size=40)


def _state(series: list[dict[int, Any]], through: int) -> dict[str, Any]:
    return {
        "series": [
            {"label": str(i), "key": str(i), "field": "v", "data": [[x, data[x]] for x in sorted(data)]}
            for i, data in enumerate(series)
        ],
        "through": through,
    }


@given(st.lists(_points, min_size=1, max_size=3), st.lists(_points, min_size=1, max_size=3), st.integers(0, 1))
def test_applying_a_change_gives_the_new_state_exactly(before: Any, after: Any, step: int) -> None:
    old, new = _state(before, 1), _state(after, 1 + step)
    message = series_change(old, new)
    if message is None:
        assert old == new
        return
    content = json.loads(message.data)
    if message.kind == "series":
        assert content == new
        return
    by_name = {(series["key"], series["field"]): dict(series["data"]) for series in old["series"]}
    for item in content["series"]:
        data = by_name[item["key"], item["field"]]
        for x in item["gone"]:
            del data[x]
        data.update(dict(item["set"]))
    expected = {(s["key"], s["field"]): dict(s["data"]) for s in new["series"]}
    assert by_name == expected
    assert content["through"] == new["through"]


def test_new_points_reach_an_open_stream_within_a_second(server: Server) -> None:
    write_aggregate(server.database, "live_a", {"x/2024-01-01": 1}, through=1)
    with server.stream("api/v1/live/live_a/") as stream:
        kind, _, data = stream.next()
        assert (kind, data["series"][0]["data"]) == ("series", [[1704067200000.0, 1]])
        through = itertools.count(2)

        def shown() -> float:
            number = next(through)
            write_aggregate(server.database, "live_a", {"x/2024-01-02": number}, through=number)
            began = time.monotonic()
            server.announce("live_a", number)
            changes: list[Any] = []
            data: dict[str, Any] = {"through": 0}
            while data["through"] < number:  # a value can be read and sent before its position
                kind, _, data = stream.next()
                assert kind == "points"
                changes += data["series"]
            took = time.monotonic() - began
            assert changes == [{"key": "x", "field": "value", "set": [[1704153600000.0, number]], "gone": []}]
            return took

        assert_within(1, shown)


def test_a_stream_continues_after_the_last_event_id(server: Server) -> None:
    write_aggregate(server.database, "live_b", {"x/2024-01-01": 1}, through=1)
    with server.stream("api/v1/live/live_b/") as stream:
        _, last, _ = stream.next()
    write_aggregate(server.database, "live_b", {"x/2024-01-01": 2}, through=2)
    server.announce("live_b", 2)
    with server.stream("api/v1/live/live_b/", Last_Event_ID=last) as stream:
        kind, _, data = stream.next()
        assert (kind, data["series"][0]["set"]) == ("points", [[1704067200000.0, 2]])


def test_a_posted_event_is_in_the_pulse_within_a_second(server: Server) -> None:
    with server.stream("live/pulse/") as stream:
        stream.next()

        def shown() -> float:
            name = f"pulse-{uuid.uuid4().hex}"
            began = time.monotonic()
            assert server.post_events({"type": name, "context": {"who": "ann"}})["accepted"] == 1
            while True:
                kind, _, data = stream.next()
                assert kind == "pulse"
                if data["latest"] and data["latest"][0]["type"] == name:
                    break
            took = time.monotonic() - began
            assert sum(counts.get(name, 0) for _, counts in data["rates"]) == 1
            return took

        assert_within(1, shown)


def test_500_open_streams_share_one_query_and_hold_no_database_connections(server: Server) -> None:
    write_aggregate(server.database, "live_e", {"x/2024-01-01": 1}, through=1)
    (worker,) = psutil.Process(server.processes["web"].pid).children()
    host, port = urlsplit(server.url()).hostname, urlsplit(server.url()).port
    mongo_before = sum(item.raddr.port == MongoAddress(server).port for item in worker.net_connections() if item.raddr)
    streams = [socket.create_connection((host, port)) for _ in range(500)]
    try:
        for stream in streams:
            stream.sendall(b"GET /api/v1/live/live_e/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(streams, b"event: series")
        server.database.command("profile", 2)
        write_aggregate(server.database, "live_e", {"x/2024-01-02": 777}, through=2)
        server.announce("live_e", 2)
        read_until(streams, b"777")
        server.database.command("profile", 0)
        asked = {"op": "query", "ns": f"{server.database_name}.zagg.live_e"}
        profile = server.database.get_collection(
            "system.profile", read_concern=ReadConcern("local")
        )  # is not replicated
        assert profile.count_documents(asked) == 1
        assert sum("sqlite3" in file.path for file in worker.open_files()) < 10
        mongo = sum(item.raddr.port == MongoAddress(server).port for item in worker.net_connections() if item.raddr)
        assert mongo < mongo_before + 10
    finally:
        for stream in streams:
            stream.close()


class MongoAddress:
    """The port of the server's mongod."""

    def __init__(self, server: Server) -> None:
        self.port = server.database.client.address[1]  # type: ignore[index]


def read_until(streams: list[socket.socket], text: bytes, timeout_s: float = 90.0) -> None:
    """Read every stream until it has sent `text`."""
    poller, left = select.poll(), {stream.fileno(): stream for stream in streams}
    seen = dict.fromkeys(left, b"")
    for number in left:
        poller.register(number, select.POLLIN)

    def all_sent() -> bool:
        for number, _ in poller.poll(100):
            seen[number] += left[number].recv(1 << 16)
            if text in seen[number]:
                poller.unregister(number)
                del left[number]
        return not left

    eventually(all_sent, timeout_s, f"{text!r} on each of {len(streams)} streams")


def test_the_first_read_has_the_rates_of_the_last_minute(store: Any, database: Any) -> None:
    store.prepare()
    now = datetime.now(UTC).replace(microsecond=0)
    ages_s = [5, 5, 20, 300, -100]  # one is old, one is in the future
    database["event.1"].insert_many(
        {"_id": i + 1, "type": "a" if i else "b", "timestamp": now - timedelta(seconds=age_s), "context": {}}
        for i, age_s in enumerate(ages_s)
    )
    feed = OverviewFeed(lambda: database)
    rates = dict(feed.read()["rates"])
    assert rates == {
        int(now.timestamp()) - 20: {"a": 1},
        int(now.timestamp()) - 5: {"a": 1, "b": 1},
    }
    database["event.1"].insert_one({"_id": 9, "type": "c", "timestamp": now - timedelta(days=9), "context": {}})
    assert [counts for _, counts in feed.read()["rates"]][-1] == {"c": 1}  # later events count by their arrival


@pytest.mark.parametrize(
    ("types", "lines"),
    [
        ("m" * 50, "m" * SHOWN_EVENTS),
        ("o" * 50, "o" * SHOWN_EVENTS),
        ("m" * 30 + "o" + "m" * 30, "mmmmo"),
        ("om" * 30, "omomomom" + "o" * 12),
        ("", ""),
    ],
)
def test_measurements_do_not_hide_other_events(types: str, lines: str) -> None:
    latest = [{"_id": 100 - i, "type": "metric" if kind == "m" else kind} for i, kind in enumerate(types)]
    found = choose_events(latest)
    assert "".join("m" if event["type"] == "metric" else "o" for event in found) == lines
    assert [event["_id"] for event in found] == sorted((event["_id"] for event in found), reverse=True)


def test_an_idle_stream_has_a_heartbeat(server: Server) -> None:
    write_aggregate(server.database, "live_c", {"x/2024-01-01": 1}, through=1)
    assert HEARTBEAT_S < 20
    with urllib.request.urlopen(server.url("api/v1/live/live_c/"), timeout=ANSWER_WITHIN_S) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["X-Accel-Buffering"] == "no"
        while not (line := answer.readline()).startswith(b":"):
            assert line


def test_gunicorn_ends_within_three_seconds_despite_open_streams(server: Server) -> None:
    write_aggregate(server.database, "live_d", {"x/2024-01-01": 1}, through=1)

    def ended() -> float:
        with server.stream("api/v1/live/live_d/") as stream:
            stream.next()
            try:
                took = server.stop("web")
                with pytest.raises(EOFError):
                    stream.next()
            finally:
                server.start_web()
        return took

    assert_within(3, ended, tries=1)


@pytest.mark.parametrize(
    ("access", "end"),
    [
        ("token", "AccessToken.objects.filter(name='leaver').delete()"),
        ("login", "Session.objects.all().delete()"),
    ],
)
def test_an_open_stream_ends_once_access_is_withdrawn(server: Server, access: str, end: str) -> None:
    write_aggregate(server.database, "live_f", {"x/2024-01-01": 1}, through=1)
    if access == "token":
        headers = {"Authorization": f"Token {server.make_token('leaver', 'read')}"}
    else:
        headers = {"Cookie": f"sessionid={server.django(LOG_IN).strip()}"}
    with server.stream("api/v1/live/live_f/", **headers) as stream:
        assert stream.next()[0] == "series"
        server.django(f"{LEAVING}\n{end}")
        with pytest.raises(EOFError):
            stream.next()


LEAVING = """
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from aggregates.models import AccessToken
"""
LOG_IN = """
from django.contrib.auth import get_user_model
from django.test import Client
user, _ = get_user_model().objects.update_or_create(username="leaver", defaults={"is_active": True})
client = Client()
client.force_login(user)
print(client.session.session_key)
"""
