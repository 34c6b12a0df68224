"""The notice listener goes on after any notice, and after any address."""

from __future__ import annotations

from typing import Any

import bson
import pytest
import zmq

from aggregates.services import loop_thread
from aggregates.services.loop_thread import loop_faults
from aggregates.services.notice_listener import NoticeListener
from ingest.transport import notice
from tests.support.waiting import eventually


def address_of(socket: zmq.Socket[bytes]) -> str:
    return socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")


def test_a_notice_on_which_handling_fails_is_skipped(publisher: zmq.Socket[bytes]) -> None:
    handled: list[str] = []

    def deliver(found: dict[str, Any]) -> None:
        if found.get("name") == "poison":
            raise TypeError("unhashable")
        handled.append(found["$command"])

    listener = NoticeListener(lambda: address_of(publisher), deliver)
    listener.start()

    def arrives() -> bool:
        publisher.send(bson.encode({"$command": "agg_complete", "name": ["x"]}))
        publisher.send(notice.agg_complete("poison", 1, 1))
        publisher.send(notice.committed(1, 1))
        return len(handled) > 2

    try:
        eventually(arrives)
        assert set(handled) == {"committed"}
        assert loop_faults()["notice-listener"] == ""
    finally:
        listener.stop()


def test_an_address_that_cannot_be_used_is_tried_again(
    publisher: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_thread, "RETRY_S", 0.01)
    addresses, handled = ["nonsense"], []
    listener = NoticeListener(lambda: addresses[0], handled.append)
    listener.start()
    try:
        eventually(lambda: loop_faults().get("notice-listener") == "ZMQError")
        addresses[0] = address_of(publisher)
        eventually(lambda: publisher.send(notice.committed(1, 1)) or handled)
    finally:
        listener.stop()
