"""Notices leave in a thread of their own, which nobody waits for."""

from __future__ import annotations

import threading
from typing import Any, cast

import zmq

from ingest.server.notice_sender import NoticeSender

MANY = 5_000


class Publisher:
    """Stands for a socket that is held up by what its subscribers do."""

    def __init__(self) -> None:
        self.may_send = threading.Event()
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.may_send.wait()
        self.sent.append(message)

    def close(self, linger: int) -> None:
        self.sent.append(b"closed")


def test_what_is_sent_while_the_publisher_is_held_up_waits_in_a_queue_with_an_end() -> None:
    with zmq.Context() as context:
        publisher: Any = Publisher()
        sender = NoticeSender(context, publisher, linger_ms=0)
        for number in range(MANY):
            sender.send(b"%d" % number)  # never waits: nothing could end that
        threading.Timer(0.3, publisher.may_send.set).start()  # only while `close` waits for it
        sender.close()
        *sent, last = publisher.sent
        assert last == b"closed"
        assert sent == [b"%d" % number for number in range(len(sent))]
        assert 0 < len(sent) < MANY


def test_the_last_notice_leaves_before_the_end() -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        publisher = context.socket(zmq.XPUB)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        subscriber.connect(f"tcp://127.0.0.1:{port}")
        subscriber.subscribe(b"")
        assert publisher.poll(10_000), "the subscription has arrived"
        publisher.recv()
        sender = NoticeSender(context, cast("zmq.Socket[bytes]", publisher), linger_ms=5_000)
        sender.send(b"notice")
        sender.close()
        assert subscriber.poll(10_000)
        assert subscriber.recv() == b"notice"
