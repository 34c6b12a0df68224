"""The router survives every message, record and result: a bad one costs one peer or one job."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.log_limit import LogLimit
from mapreduce.codec import encode
from mapreduce.exceptions import MapReduceError, StoreUnavailableError
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import COMPLETE, ERROR, QUERY
from mapreduce.router import job_store
from mapreduce.scheduler.job_limits import JobLimits
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.order import AssignStep, JobEnded
from mapreduce.scheduler.scheduler import AttemptReply, Scheduler
from mapreduce.scheduler.step import PROBE
from mapreduce.scheduler.worker_state import WorkerState
from mapreduce.settings import EngineSettings
from mapreduce.wire import message
from tests.support.mapreduce.jobs import SPEC
from tests.support.mapreduce.peer import HELLO, Peer
from tests.support.mapreduce.scheduler_harness import SchedulerHarness
from tests.support.mongo import make_last
from tests.support.waiting import eventually

T = "tests.support.mapreduce.tasks:"
Data = Database[dict[str, Any]]
MIB = 2**20


def test_an_invalid_worker_message_costs_its_sender_but_not_the_router(peer: Peer) -> None:
    base = {"job": "a", "attempt": "b"}
    for kind, header in [
        (message.FAILED, {**base, "error": "x"}),
        (message.DONE, {**base, "result": 5, "held": None}),
        (message.DONE, {**base, "result": {}, "held": {"split": "x"}}),
        (message.BEAT, {"idle": "x", "spare": 0, "running": []}),
        (message.BEAT, {"idle": 0, "spare": 0, "running": [{}]}),
        (message.PROGRESS, {**base, "docs": 1, "phase": "complete"}),
        (message.BROKEN, {"job": 5}),
        (message.HELLO, {**HELLO, "versions": message.versions(), "held": [5]}),
        (message.HELLO, {**HELLO, "versions": message.versions(), "slots": -1}),
    ]:
        socket = peer.worker()
        peer.hear(socket, message.WELCOME)
        socket.send_multipart(message.pack(kind, header))
        eventually(lambda: not peer.router.scheduler.workers, what=f"{kind} {header} costs the peer")
        # A real worker says hello again, because the answer is that it is not known.
        socket.send_multipart(message.pack(message.BEAT, {"idle": 1, "spare": 0, "running": []}))
        assert peer.hear(socket, message.BEAT)["known"] is False
    assert peer.ask(**{"$command": "echo", "value": 1}) == {"value": 1}


@pytest.mark.parametrize("header", [{"versions": "0.1"}, {"name": 5, "versions": {"protocol": 1}}, {"held": 5}])
def test_another_release_is_refused_by_name_with_any_form_of_hello(peer: Peer, header: dict[str, Any]) -> None:
    socket = peer.socket(zmq.DEALER, "zmr.worker_bind")
    socket.send_multipart([encode({"t": "hello", **header})])
    assert peer.hear(socket, message.REFUSED)["error"]["code"] == "version_refused"


def test_the_router_starts_with_any_job_records_and_ends_invalid_ones(
    make_settings: Callable[..., EngineSettings], database: Data
) -> None:
    call_ = CallSpec("good", T + "multiply", encode({"args": [1], "kwargs": {}}))
    good = {"_id": "good", "kind": "basic", "state": "ready", "spec": call_.to_document(), "digest": "x"}
    spec = {**bad_spec(database), "split_limit_s": "x"}
    database["zmr.job"].insert_many(
        [
            {"_id": "bad", "kind": "mapreduce", "state": "map", "spec": spec},
            {"_id": "worse", "state": "map"},
            {"_id": 5, "kind": "basic", "state": "ready", "spec": "x"},
            {"_id": "dots", "kind": "mapreduce", "state": "query", "spec": {**bad_spec(database), "job_id": ".."}},
            good,
        ]
    )
    peer = Peer(make_settings(engine="zmq"))
    try:
        records = database["zmr.job"]
        eventually(lambda: records.count_documents({"state": "error"}) == 4, what="four of them end in error")
        assert {found["error"]["code"] for found in records.find({"state": "error"})} == {"bad_request"}
        assert peer.ask(**{"$command": "status", "job_id": "good"})["status"]["state"] == "ready"
        assert len(peer.ask(**{"$command": "jobs"})["jobs"]) == 5
        records.insert_one({"_id": "later", "state": "map", "kind": "basic"})
        assert peer.ask(**{"$command": "status", "job_id": "later"})["status"]["error"]["code"] == "bad_request"
        eventually(lambda: records.find_one({"_id": "later", "state": "error"}), what="the one that came later too")
    finally:
        peer.stop()


def bad_spec(database: Data) -> dict[str, Any]:
    return {**SPEC.to_document(), "database": database.name}


def test_a_result_that_cannot_be_recorded_is_reported_and_recorded_as_too_big(peer: Peer, database: Data) -> None:
    socket = peer.worker()
    client = peer.socket(zmq.REQ, "zmr.req_bind")
    client.send(
        encode({"$command": "basic", "func_name": T + "big", "args": ["x" * 6 * MIB], "job_id": "j", "wait": True})
    )
    result = {"result": "x" * 12 * MIB}

    def answered() -> bool:
        """Act as a worker that does its step; return whether the client has its answer."""
        socket.send_multipart(message.pack(message.BEAT, {"idle": 1, "spare": 0, "running": []}))
        while socket.poll(0):
            kind, task, _ = message.unpack(socket.recv_multipart())
            if kind == message.TASK:
                done = {"attempt": task["attempt"], "job": "j", "result": result, "held": None, "leaves": False}
                socket.send_multipart(message.pack(message.DONE, done))
            elif kind == message.BEAT and not task["known"]:
                hello = {**HELLO, "versions": message.versions()}
                socket.send_multipart(message.pack(message.HELLO, hello))
        return bool(client.poll(50))

    eventually(answered, what="the answer")
    status = bson.decode(client.recv())["status"]
    assert (status["state"], status["error"]["code"]) == ("error", "result_too_big")
    make_last(database)
    found = database["zmr.job"].find_one({"_id": "j"})
    assert found is not None
    assert (found["state"], found["error"]["code"]) == ("error", "result_too_big")
    assert peer.ask(**{"$command": "status", "job_id": "j"})["status"]["state"] == "error"


@pytest.mark.parametrize(
    "error",
    [
        {},
        {"code": 7, "message": None, "details": []},
        {"code": ["x"], "message": {"a": 1}, "details": "x"},
        {"code": "nonsense", "message": "m", "details": {}},
        {"code": "call_failed", "message": " ", "details": {}},
        {"code": "call_failed", "message": "m", "details": 3},
    ],
)
def test_a_malformed_error_ends_the_attempt_and_not_the_job(peer: Peer, error: dict[str, Any]) -> None:
    socket = peer.worker()
    job = {"$command": "basic", "func_name": T + "big", "args": ["x"], "job_id": "j", "wait": False}
    assert "status" in peer.ask(**job)
    task = peer.hear(socket, message.TASK)
    failed = {"attempt": task["attempt"], "job": "j", "error": error, "leaves": False}
    socket.send_multipart(message.pack(message.FAILED, failed))

    def given_again() -> bool:
        """Act as a worker that lives; return whether it is to do the step once more."""
        socket.send_multipart(message.pack(message.BEAT, {"idle": 1, "spare": 0, "running": []}))
        while socket.poll(50):
            kind, again, _ = message.unpack(socket.recv_multipart())
            if kind == message.TASK:
                return bool(again["attempt"] != task["attempt"])
        return False

    eventually(given_again, what="the second attempt")


@pytest.mark.parametrize("key", ["zmr.req_bind", "zmr.worker_bind"])
def test_a_message_of_many_frames_is_read_in_parts_and_the_next_one_is_understood(peer: Peer, key: str) -> None:
    socket = peer.socket(zmq.DEALER, key)
    socket.send_multipart([b""] * 50_000)
    assert "jobs" in peer.ask(**{"$command": "jobs"})
    socket.send_multipart([b"x" * 10] * 2_500 + [b""] + [encode({"$command": "jobs"})])
    if key == "zmr.req_bind":
        socket.send_multipart([b"id", b"", encode({"$command": "jobs"})])
        answers = iter(lambda: socket.poll(60_000) and socket.recv_multipart(), 0)
        assert any(answer[:2] == [b"id", b""] and "jobs" in bson.decode(answer[-1]) for answer in answers)
    else:
        socket.send_multipart(message.pack(message.HELLO, {**HELLO, "versions": message.versions()}))
        peer.hear(socket, message.WELCOME)


def test_while_mongodb_is_away_lookups_fail_and_job_ends_are_recorded_later(
    mongo_uri: str, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "SERVER_TIMEOUT_MS", 100)
    addresses: list[Any] = []

    def address() -> str:
        if not addresses:
            raise OSError("no address is recorded")
        return str(addresses[0])

    database["zmr.job"].insert_one({"_id": "j", "state": "map"})
    answers: dict[str, list[Any]] = {"end": [], "find": [], "later": []}
    recorder = job_store.JobStore(address, database.name, lambda: None)
    recorder.start()
    try:
        recorder.ask(job_store.end("j", {"state": "complete"}, durable=False), answers["end"].append, insist=True)
        recorder.ask(job_store.find("j"), answers["find"].append)
        eventually(lambda: recorder.deliver() or answers["find"], what="an answer, though an end waits to be recorded")
        assert isinstance(answers["find"][0], StoreUnavailableError)
        assert not answers["end"]
        addresses.append(mongo_uri)
        eventually(lambda: recorder.deliver() or answers["end"], what="the end is recorded")
        assert answers["end"] == [None]
        recorder.ask(job_store.find("j"), answers["later"].append)
        eventually(lambda: recorder.deliver() or answers["later"], what="the record")
        assert answers["later"][0]["state"] == "complete"
    finally:
        recorder.stop()


LIMITS = JobLimits(reduce_count=4, outstanding_maps=16, outstanding_reduces=16, split_limit_s=600.0)


def call(job_id: str) -> CallSpec:
    return CallSpec(job_id, "m:f", encode({"args": [], "kwargs": {}}))


def gives(scheduler: Scheduler, now: float) -> list[AssignStep]:
    """Return the steps that are given after all probes are done."""
    found = [order for order in scheduler.step(now) if isinstance(order, AssignStep)]
    probes = [give for give in found if give.step.kind == PROBE]
    for give in probes:
        scheduler.done(AttemptReply(give.worker_id, give.job.job_id, give.attempt_id), {}, None, now)
        scheduler.ready(give.worker_id, now)
    return gives(scheduler, now) if probes else found


def test_a_job_that_kills_its_process_waits_and_lets_other_jobs_go_first() -> None:
    scheduler = Scheduler("e")
    scheduler.register(WorkerState("w", "w", 1, "tcp://w", 0.0, 1), {})
    scheduler.add(JobState(call("kills"), LIMITS, 0.0))
    (give,) = gives(scheduler, 0.0)
    pauses: list[float] = []
    now = 1.0
    while "kills" in scheduler.jobs:
        scheduler.broken(AttemptReply("w", "kills", give.attempt_id), "its process ended", now)
        scheduler.ready("w", now)  # another process is there
        if not pauses:
            scheduler.add(JobState(call("good"), LIMITS, 0.5))  # younger than the job that kills
            scheduler.heartbeat("w", 1, set(), now)
            (other,) = gives(scheduler, now + 2.0)
            assert other.job.job_id == "good", "a job that has cost a process goes to the end of the queue"
            scheduler.done(AttemptReply("w", "good", other.attempt_id), {"result": 1}, None, now + 2.0)
            scheduler.ready("w", now + 2.0)
            now += 2.0
        begun = now
        given: list[AssignStep] = []
        while not given and "kills" in scheduler.jobs:
            scheduler.heartbeat("w", 1, set(), now)
            given = gives(scheduler, now)
            now += 0.0 if given else 0.05
        pauses.append(now - begun)
        give = given[0] if given else give
    assert pauses[1:4] == sorted(pauses[1:4])
    assert pauses[1] > 0.2
    assert pauses[3] > 2 * pauses[1]


def test_a_job_on_which_the_scheduler_fails_ends_in_error_and_others_continue() -> None:
    for break_it in (
        lambda job: setattr(job.steps.timings["call"], "ceiling_s", "x"),
        lambda job: setattr(job, "steps", None),
        lambda job: setattr(job, "offer", None),
    ):
        scheduler = Scheduler("e")
        scheduler.register(WorkerState("w", "w", 2, "tcp://w", 0.0, 2), {})
        scheduler.health.answered("w")
        bad, good = JobState(call("bad"), LIMITS, 0.0), JobState(call("good"), LIMITS, 0.0)
        scheduler.add(bad)
        scheduler.add(good)
        break_it(bad)
        scheduler.next_check_s(0.0)
        orders = scheduler.step(0.0) + scheduler.step(1.0)
        scheduler.next_check_s(1.0)
        assert [order.job for order in orders if isinstance(order, JobEnded)] == [bad]
        assert (bad.state, bad.error and bad.error.code) == (ERROR, "engine")
        (give,) = [order for order in orders if isinstance(order, AssignStep) and order.job is good]
        scheduler.done(AttemptReply("w", "good", give.attempt_id), {"result": 1}, None, 1.0)
        scheduler.step(1.0)
        assert good.state == COMPLETE


def test_nobody_who_connects_can_forge_or_flood_log_lines(
    make_settings: Callable[..., EngineSettings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    peer = Peer(make_settings(engine="zmq"), LogLimit(60.0).allows)
    forged = "w\n2026-11-30 00:00:00,000 WARNING mapreduce: forged"
    try:
        for number in range(300):
            socket = peer.socket(zmq.DEALER, "zmr.worker_bind", f"{number}\nforged".encode())
            socket.send_multipart([encode({"t": "hello", "name": forged, "versions": 5})])
            peer.hear(socket, message.REFUSED)
            hello = {**HELLO, "name": forged, "versions": message.versions()}
            socket.send_multipart(message.pack(message.HELLO, hello))
            peer.hear(socket, message.WELCOME)
            socket.send_multipart(message.pack(message.BEAT, {"idle": "x", "spare": 0, "running": [forged]}))
            socket.close()
        eventually(lambda: not peer.router.scheduler.workers, what="all are dropped")
    finally:
        peer.stop()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("mapreduce")]
    assert not [line for line in lines if "\n" in line]
    assert 3 <= len(lines) <= 120
    assert max(map(len, lines)) < 1_000


def test_progress_shows_why_an_attempt_failed_while_the_job_continues() -> None:
    harness = SchedulerHarness("w")
    job = harness.add()
    (give,) = harness.gives()
    harness.fail(give, StoreUnavailableError("MongoDB is away"))
    assert job.state == QUERY
    assert job.status(harness.now).progress["last_failure"] == "plan 0: store_unavailable: MongoDB is away"


def test_any_message_of_a_worker_is_a_sign_of_life(peer: Peer) -> None:
    socket = peer.worker()
    peer.hear(socket, message.WELCOME)
    (worker,) = peer.router.scheduler.workers.values()
    before = worker.seen_s
    header = {"job": "a", "attempt": "b", "docs": 1, "phase": None}
    socket.send_multipart(message.pack(message.PROGRESS, header))
    eventually(lambda: worker.seen_s > before, what="its progress is a sign of life")


def test_an_error_from_the_wire_may_have_any_details() -> None:
    from mapreduce.exceptions import from_document

    assert isinstance(from_document({"code": [], "details": "x"}), MapReduceError)
