"""A worker answers those who ask for map output, however they behave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from mapreduce.codec import decode, encode
from mapreduce.exceptions import OutputGoneError
from mapreduce.settings import EngineSettings
from mapreduce.wire import message
from mapreduce.worker.fetch import AHEAD, PIECE_BYTES, Fetcher, Wanted
from mapreduce.worker.worker import Worker
from tests.support.mapreduce.nested import nested
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
        socket.send(request(1, message.MOST_COUNT))

        def answered() -> bool:
            worker.perform()
            return bool(socket.poll(10))

        eventually(answered)
        assert len(socket.recv_multipart()[1]) == PIECE_BYTES


GOOD = {"n": 1, "job": "job", "attempt": "attempt", "offset": 0, "length": 4}
HOSTILE: dict[str, list[bytes]] = {
    "no BSON": [b"x"],
    "nothing": [b""],
    "no request": [encode({})],
    "many frames": [b""] * 100_000,
    **{
        f"{field} {value!r:.20}": [encode({**GOOD, field: value})]
        for field in GOOD
        for value in (-1, 2**63 - 1, float("nan"), True, None, [], {}, b"x", "x" * 60_000)
        if not (field == "length" and value == 2**63 - 1)
    },
    **{
        f"{field} {depth} levels deep": [nested(depth, **GOOD, at=field)]
        for field in GOOD
        for depth in (300, 990, 5_000)
    },
}


@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE)
def test_a_worker_survives_every_request_for_map_output(worker: Worker, frames: list[bytes]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as bad, context.socket(zmq.DEALER) as good:
        for socket in (bad, good):
            socket.connect(worker.data_uri)
        bad.send_multipart(frames)

        def answered(socket: Any) -> bool:
            worker.perform()
            return bool(socket.poll(10))

        if len(frames) == 1:
            eventually(lambda: answered(bad))
            header, data = bad.recv_multipart()
            assert decode(header)["ok"] is False
            assert not data
        good.send(encode(GOOD))
        eventually(lambda: answered(good))
        assert good.recv_multipart()[1] == b"xxxx"


@pytest.mark.parametrize(
    "answer",
    [
        [b"x"],
        [b"x", b"y"],
        [encode({}), b""],
        [encode({"n": 0}), b"data"],
        [encode({"n": 0, "ok": True})],
        [encode({"n": 0, "ok": True}), b"long data"],
        [encode({"n": 0, "ok": True}), b"data", b""],
        [encode({"n": 0, "ok": True}), b"x" * (PIECE_BYTES + 1)],
        [nested(800, at="why", n=0), b""],
        [nested(5_000, at="why", n=0), b""],
        [b""] * 100_000,
    ],
    ids=lambda answer: f"{len(answer)} {answer[0]!r:.20}",
)
def test_map_output_that_a_worker_answers_malformed_is_lost(answer: list[bytes]) -> None:
    """It is mapped again elsewhere; any other error would end the job."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as liar:
        liar.set(zmq.LINGER, 0)
        port = liar.bind_to_random_port("tcp://127.0.0.1")

        def lie() -> None:
            peer, _ = liar.recv_multipart()
            liar.send_multipart([peer, *answer])

        thread = threading.Thread(target=lie)
        thread.start()
        fetcher = Fetcher(context, "own", quiet_s=0.5)
        try:
            wanted = Wanted("liar", f"tcp://127.0.0.1:{port}", 3, "attempt", None, 0, 4)
            with pytest.raises(OutputGoneError) as raised:
                fetcher.fetch("job", [wanted], None)
            assert raised.value.details == {"splits": [3]}
        finally:
            thread.join()
            fetcher.close()
