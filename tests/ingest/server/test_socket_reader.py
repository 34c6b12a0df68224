"""A paused reader uses no CPU, and continues where it stopped."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
import zmq
from gevent.hub import get_hub

from ingest.server.socket_reader import MOST_FRAMES, SocketReader, bind, bound_address, drain, receive_frames
from ingest.turn import Turn
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


def test_others_run_among_the_frames_of_a_message_of_which_few_are_kept(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    pauses: list[None] = []
    turn = Turn(lambda: pauses.append(None))
    with bind(context, zmq.ROUTER, "ack", "tcp://127.0.0.1:0") as socket, context.socket(zmq.DEALER) as sender:
        sender.connect(bound_address(socket))
        sender.send_multipart([b"first", *[b""] * 200_000, b"last"])
        assert socket.poll(60_000)
        _, first, *others, last = receive_frames(socket, turn)
    assert (first, last) == (b"first", b"last")
    assert len(others) <= MOST_FRAMES
    assert pauses
    with bind(context, zmq.PULL, "bson", "tcp://127.0.0.1:0") as pulled, context.socket(zmq.PUSH) as pusher:
        pauses.clear()
        pusher.connect(bound_address(pulled))
        pusher.send_multipart([*[b"key"] * 200_000, b"payload"])
        assert pulled.poll(60_000)
        assert drain(pulled, turn) == [b"payload"]
    assert pauses
