"""A door that does not read: it costs nothing, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
import zmq
from gevent.hub import get_hub

from ingest.server.receiver import Receiver, bind, bound_address, drain


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def test_a_held_door_leaves_the_loop_alone_and_reads_all_that_came_meanwhile_once_released(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    got: list[bytes] = []

    def receive(socket: zmq.Socket[bytes]) -> bool:
        messages = drain(socket)
        got.extend(messages)
        return bool(messages)

    def wait_until(count: int) -> None:
        with gevent.Timeout(60):
            while len(got) < count:
                gevent.sleep(0.01)

    with bind(context, zmq.PULL, "door", "tcp://127.0.0.1:0") as socket, context.socket(zmq.PUSH) as sender:
        sender.connect(bound_address(socket))
        receiver = Receiver(socket, receive)
        receiver.start(pytest.fail)
        try:
            for round_ in range(1, 4):
                sender.send(b"read")
                wait_until(round_ * 101 - 100)
                receiver.hold()
                for _ in range(100):
                    sender.send(b"waits")
                before = get_hub().loop.iteration
                gevent.sleep(0.3)  # how often the loop turns meanwhile is what is measured
                assert get_hub().loop.iteration - before < 50
                assert len(got) == round_ * 101 - 100
                receiver.release()
                wait_until(round_ * 101)
        finally:
            receiver.stop()
    get_hub().destroy(destroy_loop=True)
