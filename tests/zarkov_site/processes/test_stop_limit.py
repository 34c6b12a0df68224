"""A worker that stops ends at once if MongoDB does not answer, and is left alone if it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq
from celery import signals

from zarkov_site import celery
from zarkov_site.exceptions import HomeError
from zarkov_site.processes import stop_limit
from zarkov_site.processes.stop_limit import StopLimit, mongodb_answers


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_limit, "GRACE_S", 0.05)
    monkeypatch.setattr(stop_limit, "CHECK_EVERY_S", 0.01)


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers, as one that hangs."""
    with zmq.Context() as context, context.socket(zmq.STREAM) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind("tcp://127.0.0.1:*")
        port = socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0").rpartition(":")[2]
        yield f"mongodb://127.0.0.1:{port}/"


def test_a_process_is_ended_as_soon_as_mongodb_does_not_answer() -> None:
    answers, ended, asked = [True, True, True, False], threading.Event(), []

    def ask() -> bool:
        asked.append(answers.pop(0))
        return asked[-1]

    limit = StopLimit(ask, ended.set)
    limit.begin(sig="SIGTERM")
    limit.begin(sig="SIGTERM")  # a second signal does not start a second thread
    assert ended.wait(20)
    assert asked == [True, True, True, False]


def test_whether_mongodb_answers_is_found_out_within_seconds(mongo_uri: str, silent: str) -> None:
    def unknown() -> str:
        raise HomeError("no mongod runs")

    assert mongodb_answers(lambda: mongo_uri)
    assert not mongodb_answers(lambda: silent)
    assert not mongodb_answers(lambda: "mongodb://127.0.0.1:1/")
    assert not mongodb_answers(unknown)


def test_a_worker_begins_to_watch_when_it_is_told_to_stop() -> None:
    assert celery._stop_limit.begin in [receiver for _, receiver in signals.worker_shutting_down.receivers]
