"""Bodies of very many, very small or very large events: other requests are answered meanwhile, and all are counted."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.durations import assert_within, seconds
from tests.support.waiting import eventually
from tests.support.web.server import Server

pytestmark = pytest.mark.early
MIB = 2**20
MOST_ANSWER_BYTES = 200_000
MOST_MIB = 250  # for a body of 16 MiB, and the answer


def post(server: Server, body: bytes) -> tuple[int, Any, int]:
    """Return status, answer and its length in bytes."""
    status, _, answer = server.request("api/v1/events/", body, token=server.token)
    return status, json.loads(answer), len(answer)


EVENT = b'{"type":"many","extra":"' + b"y" * 120 + b'"}'
BAD = b'{"typ":"x","extra":"' + b"y" * 120 + b'"}'


@pytest.mark.parametrize(
    ("body", "status", "accepted", "rejected"),
    [
        (b"x\n" * 90_000, 400, 0, 90_000),
        (b"[" + b"1," * 90_000 + b"1]", 400, 0, 90_001),
        (b"[" + (EVENT + b",1,") * 20_000 + b"{}]", 200, 20_000, 20_001),
        ((EVENT + b"\n" + BAD + b"\nnonsense\n") * 10_000, 200, 10_000, 20_000),
        (b"x\n" * (8 * MIB), 413, 0, 0),
        (b"[" + b"1," * (8 * MIB - 2) + b"1]", 413, 0, 0),
        ((b"[" + (EVENT + b",") * 110_000)[:-1] + b"]", 413, 0, 0),
        (b"{\n" * (8 * MIB), 413, 0, 0),
        (b'{"type":"x","extra":[' + b"[]," * (5 * MIB) + b"1]}", 400, 0, 1),
        (b"[" * (16 * MIB), 400, 0, 1),
        (b"\n" * (16 * MIB - 1) + b"x", 400, 0, 1),
    ],
    ids=range(11),
)
def test_a_body_of_many_events_is_answered_in_short_and_each_counts(
    server: Server, body: bytes, status: int, accepted: int, rejected: int
) -> None:
    found, answer, size = post(server, body)
    assert found == status
    assert size < MOST_ANSWER_BYTES
    if status == 413:
        assert answer["error"]["code"] == "too_large"
        return
    assert answer["accepted"] == accepted
    assert sum(item.get("count", 1) for item in answer["rejected"]) == rejected
    indexes = [index for item in answer["rejected"] for index in item.get("indexes", [item["index"]])]
    assert len(set(indexes)) == len(indexes)


@pytest.mark.parametrize(
    "body",
    [
        b"x\n" * 99_000,
        b"[" + (EVENT + b",1,") * 20_000 + b"{}]",
        b"x\n" * (2 * MIB),
        b"[" + b"1," * (2 * MIB) + b"1]",
        (BAD + b"\n") * 50_000,
    ],
    ids=range(5),
)
def test_the_server_answers_others_beside_a_body_that_takes_long(server: Server, body: bytes) -> None:
    sent: list[threading.Thread] = []

    def attempt() -> float:
        if not any(thread.is_alive() for thread in sent):
            sent.append(threading.Thread(target=post, args=(server, body)))
            sent[-1].start()
        return seconds(lambda: server.request("healthz"))

    try:
        assert_within(0.5, attempt)
    finally:
        for thread in sent:
            thread.join()


def test_a_body_of_16_mib_takes_bounded_memory(mongo_uri: str, tmp_path: Path) -> None:
    with Server(mongo_uri, tmp_path) as server:
        post(server, EVENT)
        children = f"/proc/{server.processes['web'].pid}/task/{server.processes['web'].pid}/children"
        (worker,) = Path(children).read_text().split()

        def peak_mib() -> float:
            return int(Path(f"/proc/{worker}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

        before = peak_mib()
        for body in ((EVENT + b"\n") * 99_000, (BAD + b"\n") * 99_000, b"[" + b"1," * (8 * MIB - 2) + b"1]"):
            post(server, body)
            assert peak_mib() - before < MOST_MIB


def test_what_is_joined_in_an_answer_is_joined_in_quarantine(server: Server) -> None:
    lines = [b'{"typ":"joined %d"}' % number for number in range(300)]
    status, answer, _ = post(server, b"\n".join([EVENT, *lines]))
    assert (status, answer["accepted"]) == (200, 1)
    joined = answer["rejected"][-1]
    assert (joined["index"], joined["count"], joined["indexes"]) == (21, 280, list(range(21, 301)))
    kept = eventually(lambda: server.database["quarantine"].find_one({"source": "http", "raw": b"\n".join(lines[20:])}))
    assert kept["count"] == 280
