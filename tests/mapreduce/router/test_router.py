"""The request socket, used with plain REQ and BSON as any client may."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from mapreduce.engine.zmq import ZmqEngine
from mapreduce.exceptions import RouterUnreachableError, StoreUnavailableError
from mapreduce.job.request import COMMANDS
from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.router import job_store
from mapreduce.settings import EngineSettings
from tests.support.mapreduce.cluster import Cluster
from tests.support.mongo import open_client
from tests.support.waiting import eventually

T = "tests.support.mapreduce.tasks:"
Ask = Callable[[Any], dict[str, Any]]
Data = Database[dict[str, Any]]


@pytest.fixture
def ask(shared_cluster: Cluster) -> Iterator[Ask]:
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.set(zmq.LINGER, 0)
    socket.connect(shared_cluster.settings.req_uri())

    def send(request: Any) -> dict[str, Any]:
        socket.send(request if isinstance(request, bytes) else bson.encode(request))
        assert socket.poll(90_000), "every request gets a reply"
        return bson.decode(socket.recv())

    yield send
    socket.close()
    context.term()


@pytest.fixture
def request_job(database: Data) -> dict[str, Any]:
    database["event.1"].insert_many([{"_id": n, "type": "ab"[n % 2]} for n in range(1, 101)])
    return {
        "$command": "mapreduce",
        "database": database.name,
        "input_names": ["event.1"],
        "query": {},
        "output_name": "zagg.x",
        "output_type": "replace",
        "map_name": T + "by_type",
        "reduce_name": T + "add",
        "wait": True,
    }


def test_mapreduce_answers_with_the_status_of_the_ended_job(
    ask: Ask, request_job: dict[str, Any], database: Data
) -> None:
    answer = ask({**request_job, "job_id": f"j-{database.name}"})
    assert answer["job_id"] == f"j-{database.name}"
    assert answer["status"]["state"] == "complete"
    assert set(answer["status"]) >= {"state", "error", "traceback", "progress"}
    assert {d["_id"]: d["value"] for d in database["zagg.x"].find()} == {"a": 50, "b": 50}
    assert ask({"$command": "status", "job_id": answer["job_id"]})["status"]["state"] == "complete"


def test_without_wait_the_answer_comes_at_once(ask: Ask, request_job: dict[str, Any]) -> None:
    answer = ask({**request_job, "wait": False})
    assert answer["status"]["state"] in ("ready", "query")
    final = ask({"$command": "status", "job_id": answer["job_id"], "wait_s": 30})
    assert final["status"]["state"] == "complete"


def test_merge_and_a_stamped_reduce(ask: Ask, request_job: dict[str, Any], database: Data) -> None:
    for low, high in ((0, 50), (50, 100), (50, 100)):
        changes = {"output_type": "reduce", "id_min": low, "id_max": high, "stamp": [low, high]}
        assert ask({**request_job, **changes})["status"]["state"] == "complete"
    assert {d["_id"]: d["value"] for d in database["zagg.x"].find()} == {"a": 50, "b": 50}
    assert ask({**request_job, "output_type": "merge", "id_max": 2})["status"]["state"] == "complete"
    assert {d["_id"]: d["value"] for d in database["zagg.x"].find()} == {"a": 1, "b": 1}


def test_xmapreduce_feeds_several_outputs(ask: Ask, request_job: dict[str, Any], database: Data) -> None:
    database["event.1"].update_many({}, [{"$set": {"timestamp": "$$NOW"}}])
    request = {**request_job, "$command": "xmapreduce", "map_name": T + "two_outputs"}
    del request["output_name"]
    assert ask({**request, "outputs": {"types": "zagg.t", "days": "zagg.d"}})["status"]["state"] == "complete"
    assert database["zagg.t"].count_documents({}) == 2
    pattern = {**request, "output_name": "zagg.each.*", "output_type": "merge"}
    assert ask(pattern)["status"]["state"] == "complete"
    assert database["zagg.each.days"].count_documents({}) == 1


def test_basic_calls_a_function_on_a_worker(ask: Ask) -> None:
    request = {"$command": "basic", "func_name": T + "multiply", "args": [6], "kwargs": {"other": 7}, "wait": True}
    assert ask(request)["status"]["result"] == 42
    failed = ask({"$command": "basic", "func_name": T + "raise_it", "wait": True})
    assert failed["status"]["error"]["code"] == "call_failed"
    assert "nothing there" in failed["status"]["traceback"]


def test_echo_config_jobs_and_an_unknown_job(ask: Ask) -> None:
    assert ask({"$command": "echo", "value": [1, "x"]}) == {"value": [1, "x"]}
    config = ask({"$command": "config"})
    assert config["config"]["allowed_modules"] == ["tests.support.mapreduce.tasks"]
    # A worker that was lost because the machine was busy comes back.
    eventually(lambda: [worker["slots"] for worker in ask({"$command": "config"})["workers"]] == [1, 1])
    assert ask({"$command": "status", "job_id": "nobody"})["status"]["state"] == "UNKNOWN"
    assert isinstance(ask({"$command": "jobs"})["jobs"], list)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"$command": "mapreduc"}, "bad_request", "mapreduce, xmapreduce"),
        ({"$command": None}, "bad_request", "must be one of"),
        ({"input_names": "event.1"}, "bad_request", "input_names 'event.1'"),
        ({"input_names": []}, "bad_request", "at least one"),
        ({"database": ""}, "bad_request", "database"),
        ({"database": "a.b"}, "bad_request", "database 'a.b'"),
        ({"output_name": "event.1"}, "bad_request", "zagg."),
        ({"output_name": "zgen.x.1"}, "bad_request", "zagg."),
        ({"output_type": "append"}, "bad_request", "replace, merge, reduce"),
        ({"output_type": "reduce"}, "bad_request", "stamp"),
        ({"map_name": "os:system"}, "function_refused", "os is not allowed"),
        ({"map_name": T + "os.system"}, "function_refused", "does not define 'os'"),
        ({"map_name": T + "missing"}, "function_refused", "it defines"),
        ({"map_text": "def map(x): pass"}, "bad_request", "allow_source"),
        ({"reduce_name": 5}, "bad_request", "reduce_name 5"),
        ({"colour": "red"}, "bad_request", "unknown colour; known are"),
        ({"job_id": "a b"}, "bad_request", "job_id 'a b'"),
        ({"query": [1]}, "bad_request", "query"),
        ({"stamp": [1]}, "bad_request", r"stamp [1]"),
        ({"split_limit_s": -1}, "bad_request", "-1"),
        ({"on_error": "shrug"}, "bad_request", "fail, skip"),
    ],
)
def test_every_mistake_gets_a_code_and_a_message(
    ask: Ask, request_job: dict[str, Any], changes: dict[str, Any], code: str, says: str
) -> None:
    error = ask({**request_job, **changes})["error"]
    assert error["code"] == code
    assert says in error["message"]


@pytest.mark.parametrize("body", [b"", b"x", b"\x05\x00\x00\x00\x01", bson.encode({}), b"\xff" * 100])
def test_garbage_gets_an_error_and_the_router_continues(ask: Ask, body: bytes) -> None:
    assert ask(body)["error"]["code"] == "bad_request"
    assert ask({"$command": "echo", "value": 1}) == {"value": 1}


def test_garbage_on_the_worker_socket_does_no_harm(shared_cluster: Cluster, ask: Ask) -> None:
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.connect(shared_cluster.settings.worker_uri())
    for frames in ([b""], [b"x"], [bson.encode({"t": "done"})], [bson.encode({"t": "hello"})], [bson.encode({})]):
        socket.send_multipart(frames)
    socket.send_multipart([bson.encode({"t": "done", "job": "nobody", "attempt": "x", "result": {}})])
    answered = socket.poll(60_000)
    socket.close()
    context.term()
    assert answered
    assert ask({"$command": "echo", "value": 1}) == {"value": 1}


def test_many_threads_share_one_engine(shared_cluster: Cluster) -> None:
    found: list[int] = []

    def work(number: int) -> None:
        found.append(shared_cluster.engine.call(T + "multiply", [number], {"other": 2}, 200))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2 * number for number in range(20)]


def test_calls_under_gevent_wait_concurrently_and_block_no_greenlet(shared_cluster: Cluster) -> None:
    program = """
import gevent.monkey; gevent.monkey.patch_all()
import gevent, json, sys, time
from tests.support.mapreduce.serve import settings_from
from mapreduce.engine.zmq import ZmqEngine
engine = ZmqEngine(settings_from(json.loads(sys.argv[1])))
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)
gevent.spawn(tick)
calls = [gevent.spawn(engine.call, "tests.support.mapreduce.tasks:nap", [3.0], None, 200) for _ in range(4)]
gevent.joinall(calls, raise_error=True)
gaps = [later - earlier for earlier, later in zip(ticks, ticks[1:])]
engine.close()
# A call that blocks the loop does so for a whole nap; much shorter gaps come from a busy machine.
print("longest gap ok" if max(gaps) < 1.5 and len(ticks) > 10 else max(gaps))
"""
    values = json.dumps(shared_cluster.values)
    found = subprocess.run([sys.executable, "-c", program, values], capture_output=True, text=True, check=False)
    assert "longest gap ok" in found.stdout, found.stdout + found.stderr


def test_a_missing_router_is_reported_fast_with_its_address(make_settings: Callable[..., EngineSettings]) -> None:
    with ZmqEngine(make_settings(req_uri=lambda: "tcp://127.0.0.1:9")) as engine:
        assert not engine.ping(0.2)
        with pytest.raises(RouterUnreachableError, match=r"req_uri tcp://127\.0\.0\.1:9.*runrouter"):
            engine.status("j")


def test_terminate_ends_the_router(cluster: Cluster) -> None:
    cluster.start_router()
    assert cluster.engine._ask({"$command": "terminate"}) == {"terminated": True}
    assert cluster.router is not None
    assert cluster.router.wait(60) == 0


def test_a_port_in_use_is_named(cluster: Cluster) -> None:
    cluster.start_router()
    cluster.values["addresses"] += ".second"
    second = cluster._spawn("router", cluster.values)
    assert second.wait(60) != 0
    assert "zmr.req_bind tcp://127.0.0.1:" in cluster.log()
    assert "cannot be bound" in cluster.log()


def test_ended_jobs_are_looked_up_in_their_records_after_a_restart(cluster: Cluster, database: Data) -> None:
    cluster.start(1)
    database["event.1"].insert_one({"_id": 1, "type": "a"})
    spec = JobSpec(
        database=database.name,
        sources=(Source(("event.1",), T + "by_type"),),
        outputs={"": Output("zagg.x", "merge")},
        reduce_name=T + "add",
    )
    cluster.engine.run(spec, 200)
    assert cluster.router is not None
    cluster.kill(cluster.router)
    cluster.start_router()
    status = cluster.engine.status(spec.job_id)
    assert (status.state, status.progress["docs_in"]) == ("complete", 1)
    assert cluster.engine.submit(spec) == spec.job_id
    assert [found.job_id for found in cluster.engine.jobs()] == [spec.job_id]
    eventually(lambda: cluster.idle() == 1, what="the worker is back")


@pytest.mark.parametrize("command", ["mapreduce", "status", "cancel"])
def test_a_job_that_runs_only_by_its_record_is_resumed_on_request(
    command: str, shared_cluster: Cluster, mongo_uri: str, ask: Ask, request_job: dict[str, Any], database: Data
) -> None:
    """MongoDB can lose the end of a job in a crash; without a request nobody would ever end it again."""
    job_id = f"forgotten-{command}-{database.name}"
    assert ask({**request_job, "job_id": job_id})["status"]["state"] == "complete"
    with open_client(mongo_uri) as client:
        records = client[shared_cluster.settings.mongo_database]["zmr.job"]
        changed = records.update_one(
            {"_id": job_id, "state": "complete"}, {"$set": {"state": "map"}, "$unset": {"ended": 1}}
        )
        assert changed.modified_count == 1
    if command == "mapreduce":
        assert ask({**request_job, "job_id": job_id})["status"]["state"] == "complete"
        return
    answer = ask({"$command": command, "job_id": job_id})["status"]
    assert command != "cancel" or answer["state"] == "cancelled"
    eventually(
        lambda: ask({"$command": "status", "job_id": job_id})["status"]["state"] in ("complete", "cancelled"),
        what=job_id,
    )


def test_records_are_found_after_mongodb_has_moved(mongo_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "SERVER_TIMEOUT_MS", 200)
    addresses = ["mongodb://127.0.0.1:1/?directConnection=true", mongo_uri]
    found: list[Any] = []
    recorder = job_store.JobStore(lambda: addresses[0], "test_zmr_moved", lambda: None)
    recorder.start()
    try:
        recorder.ask(job_store.find("x"), found.append)
        eventually(lambda: recorder.deliver() or found, what="an answer")
        assert isinstance(found.pop(), StoreUnavailableError)
        del addresses[0]
        recorder.ask(job_store.find("x"), found.append)
        eventually(lambda: recorder.deliver() or found, what="an answer")
        assert found == [None]
    finally:
        recorder.stop()


def test_every_command_is_tested_here() -> None:
    tested = {"mapreduce", "xmapreduce", "basic", "submit", "status", "cancel", "jobs", "config", "echo", "terminate"}
    assert set(COMMANDS) == tested
