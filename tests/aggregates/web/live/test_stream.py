"""Live streams of a real gunicorn."""

from __future__ import annotations

import itertools
import select
import socket
import time
import urllib.request
import uuid
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from pymongo.read_concern import ReadConcern

from aggregates.web.live.stream import HEARTBEAT_S
from tests.support.durations import assert_within
from tests.support.waiting import eventually
from tests.support.web.server import ANSWER_WITHIN_S, Server, write_aggregate


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


def test_a_posted_event_is_in_the_overview_within_a_second(server: Server) -> None:
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
        headers = {"Cookie": f"{server.cookie_name('session')}={server.django(LOG_IN).strip()}"}
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
