"""A paused reader uses no CPU, and continues where it stopped."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
import zmq
from gevent.hub import get_hub

from ingest.server.socket_reader import SocketReader, bind, bound_address, drain
from tests.support.waiting import eventually


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def test_a_paused_reader_does_not_spin_and_reads_everything_once_resumed(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    got: list[bytes] = []

    def receive(socket: zmq.Socket[bytes]) -> bool:
        messages = drain(socket)
        got.extend(messages)
        return bool(messages)

    def wait_until(count: int) -> None:
        eventually(lambda: len(got) >= count, sleep=gevent.sleep)

    with bind(context, zmq.PULL, "bson", "tcp://127.0.0.1:0") as socket, context.socket(zmq.PUSH) as sender:
        sender.connect(bound_address(socket))
        reader = SocketReader(socket, receive)
        reader.start(pytest.fail)
        try:
            for round_ in range(1, 4):
                sender.send(b"read")
                wait_until(round_ * 101 - 100)
                reader.pause()
                for _ in range(100):
                    sender.send(b"waits")
                before = get_hub().loop.iteration
                gevent.sleep(0.3)  # how often the loop turns meanwhile is what is measured
                assert get_hub().loop.iteration - before < 50
                assert len(got) == round_ * 101 - 100
                reader.resume()
                wait_until(round_ * 101)
        finally:
            reader.stop()
    get_hub().destroy(destroy_loop=True)
