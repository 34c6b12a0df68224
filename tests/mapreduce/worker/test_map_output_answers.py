"""A worker answers those who ask for map output, however they behave."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import zmq

from mapreduce.codec import decode, encode
from mapreduce.settings import EngineSettings
from mapreduce.worker.fetch import AHEAD, PIECE_BYTES
from mapreduce.worker.worker import Worker
from tests.support.waiting import eventually

ASKED = 200


@pytest.fixture
def worker(make_settings: Callable[..., EngineSettings]) -> Iterator[Worker]:
    found = Worker(make_settings(engine="zmq"), processes=1)
    found.start()
    found.map_outputs.put("job", {"attempt": "attempt"}, b"x" * PIECE_BYTES)
    yield found
    found.stop()


def request(number: int, length: int = PIECE_BYTES) -> bytes:
    return encode({"n": number, "job": "job", "attempt": "attempt", "offset": 0, "length": length})


def test_a_peer_that_reads_no_answers_takes_little_memory_and_holds_up_no_other(worker: Worker) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as deaf, context.socket(zmq.DEALER) as good:
        for socket in (deaf, good):
            socket.set(zmq.RCVHWM, 1)
            socket.connect(worker.data_uri)
        for number in range(ASKED):
            deaf.send(request(number))
        for number in range(AHEAD):
            good.send(request(number))

        def answered() -> bool:
            worker.perform()
            return bool(good.poll(10))

        for number in range(AHEAD):
            eventually(answered)
            header, data = good.recv_multipart()
            assert decode(header)["n"] == number
            assert len(data) == PIECE_BYTES
        waiting = 0
        while deaf.poll(500):
            deaf.recv_multipart()
            waiting += 1
        assert waiting < ASKED // 2


def test_a_peer_cannot_ask_for_more_than_a_piece(worker: Worker) -> None:
    worker.map_outputs.put("job", {"attempt": "attempt"}, b"x" * 2 * PIECE_BYTES)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(worker.data_uri)
        socket.send(request(1, 2**62))

        def answered() -> bool:
            worker.perform()
            return bool(socket.poll(10))

        eventually(answered)
        assert len(socket.recv_multipart()[1]) == PIECE_BYTES
