"""Messages nested deeper than any decoder goes cost one peer or one job, and no traceback in the log."""

from __future__ import annotations

from typing import Any

import bson
import pytest
import zmq

from mapreduce.wire import message
from tests.support.mapreduce.jobs import SPEC
from tests.support.mapreduce.nested import nested
from tests.support.mapreduce.peer import HELLO, Peer
from tests.support.waiting import eventually

T = "tests.support.mapreduce.tasks:"
DEPTHS = (90, 150, 300, 500, 700, 900, *range(940, 1_010), 5_000, 100_000)
WORKER_DEPTHS = (150, 900, 980, 1_000, 100_000)  # each costs a worker, of which the router remembers all


def test_requests_nested_too_deep_are_refused_without_a_traceback(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    call = {"$command": "basic", "func_name": T + "multiply", "args": [1], "kwargs": {}}
    job = {
        "$command": "mapreduce", "database": "d", "input_names": ["event.1"], "query": {}, "id_min": 1, "stamp": [1, 2],
        "output_name": "zagg.x", "map_name": T + "by_type", "reduce_name": T + "add_each", "params": {}, "fields": [],
    }  # fmt: skip
    requests: list[dict[str, Any]] = [
        {"$command": "echo", "value": 1},
        {"$command": "status", "job_id": "x", "wait_s": 0},
        {"$command": "jobs", "limit": 1},
        {"$command": "cancel", "job_id": "x"},
        {"$command": "submit", "spec": SPEC.to_document()},
        call,
        job,
    ]
    socket = peer.socket(zmq.REQ, "zmr.req_bind")
    caplog.clear()
    for request in requests:
        for field in request:
            for depth in DEPTHS:
                socket.send(nested(depth, at=field, **request))
                assert socket.poll(60_000), "every request gets a reply"
                if depth >= 1_000:
                    answer = bson.decode(socket.recv())
                    assert answer["error"]["code"] == "bad_request", answer
                else:
                    socket.recv()  # the value of an echo can be too deep for us
    assert not [record for record in caplog.records if record.exc_info]


def test_worker_messages_nested_too_deep_cost_their_sender_but_no_traceback(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.ask(**{"$command": "basic", "func_name": T + "multiply", "args": [2], "job_id": "j"})
    base = {"job": "j", "attempt": "b"}
    headers: list[dict[str, Any]] = [
        {"t": message.FAILED, **base, "error": {}},
        {"t": message.FAILED, **base, "error": {"code": "engine", "message": "m", "details": {}}},
        {"t": message.DONE, **base, "result": {}, "held": None},
        {"t": message.BEAT, "idle": 0, "spare": 0, "running": []},
        {"t": message.PROGRESS, **base, "docs": 1, "phase": None},
        {"t": message.BROKEN, **base, "why": "x"},
        {"t": message.HELLO, **HELLO, "versions": message.versions()},
    ]
    for header in headers:
        for field in header:
            for depth in WORKER_DEPTHS:
                socket = peer.worker()
                socket.send(nested(depth, at=field, **header))
                socket.close(1_000)
    assert peer.ask(**{"$command": "echo", "value": 1}) == {"value": 1}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("depth", [150, 500, 900])
@pytest.mark.parametrize("kind", [message.DONE, message.FAILED])
def test_a_result_or_error_nested_too_deep_ends_the_attempt(
    peer: Peer, caplog: pytest.LogCaptureFixture, kind: str, depth: int
) -> None:
    socket = peer.worker()
    peer.hear(socket, message.WELCOME)
    peer.ask(**{"$command": "basic", "func_name": T + "multiply", "args": [2], "job_id": "j"})
    probe = peer.hear(socket, message.TASK)
    ids = {"job": "j", "attempt": probe["attempt"]}
    socket.send_multipart(message.pack(message.DONE, {**ids, "result": {}, "held": None}))
    socket.send_multipart(message.pack(message.READY, {}))
    ids["attempt"] = peer.hear(socket, message.TASK)["attempt"]
    deep = bson.decode(nested(depth, at="result"))
    error = {"code": "call_failed", "message": "m", "details": deep}
    header = {"result": deep, "held": None} if kind == message.DONE else {"error": error}
    socket.send_multipart(message.pack(kind, {**ids, **header}))
    job = peer.router.scheduler.jobs["j"]
    eventually(lambda: job.last_failure is not None, what="the attempt has ended")
    assert "nested" in str(job.last_failure) or "details" in str(job.last_failure)
    assert not job.ended
    assert not [record for record in caplog.records if record.exc_info]
