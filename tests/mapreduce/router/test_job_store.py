"""The router while MongoDB is away, does not answer, or comes back: what it reports, and what clients get."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
import zmq
from pymongo.database import Database

from mapreduce.codec import encode
from mapreduce.engine.zmq import ZmqEngine
from mapreduce.exceptions import StoreUnavailableError
from mapreduce.router import job_store
from mapreduce.router.pending_lookup import ANSWER_WITHIN_S
from mapreduce.settings import EngineSettings
from tests.support.mapreduce.peer import Peer
from tests.support.waiting import eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

T = "tests.support.mapreduce.tasks:"
CALL = {"$command": "basic", "func_name": T + "multiply", "args": [2], "job_id": "j"}


def test_a_router_without_mongodb_says_so_and_accepts_jobs_as_soon_as_it_is_there(
    make_settings: Callable[..., EngineSettings], mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "SERVER_TIMEOUT_MS", 200)
    address = "mongodb://127.0.0.1:1/?directConnection=true"
    peer = Peer(make_settings(engine="zmq", mongo_address=lambda: address))
    try:
        eventually(lambda: peer.said, what="what is missing")
        assert "127.0.0.1:1" in peer.said[0]
        assert "no jobs are taken yet: trying again" in peer.said[0]
        for request in (CALL, {"$command": "jobs"}, {"$command": "status", "job_id": "j"}):
            error = peer.ask(**request)["error"]
            assert error["code"] == "store_unavailable"
            assert "127.0.0.1:1" in error["message"]
        assert peer.ask(**{"$command": "echo", "value": 1}) == {"value": 1}
        assert not any("taking jobs" in text for text in peer.said)
        address = mongo_uri
        eventually(
            lambda: any(text.startswith("taking jobs at zmr.req_bind tcp://") for text in peer.said), what=peer.said
        )
        assert peer.ask(**CALL)["status"]["state"] == "ready"
    finally:
        peer.stop()


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[LocalMongod]:
    """Yield a mongod that the test may stop."""
    found = LocalMongod(HomeFolder(tmp_path / "home"))
    found.start()
    yield found
    psutil.Process(found.process.pid).resume()
    found.stop()


def test_a_client_is_answered_in_time_while_mongodb_hangs_and_its_job_is_recorded_once(
    make_settings: Callable[..., EngineSettings], mongod: LocalMongod, tmp_path: Path
) -> None:
    peer = Peer(make_settings(engine="zmq", mongo_address=HomeFolder(tmp_path / "home").mongo_uri))
    try:
        eventually(lambda: any("taking jobs" in text for text in peer.said), what="the router takes jobs")
        process = psutil.Process(mongod.process.pid)
        process.suspend()
        client = peer.socket(zmq.DEALER, "zmr.req_bind")
        client.send_multipart([b"", encode(CALL)])
        assert client.poll(60_000)
        error = bson.decode(client.recv_multipart()[-1])["error"]
        assert error["code"] == "store_unavailable"
        assert f"has not answered for {ANSWER_WITHIN_S:g} s" in error["message"]
        process.resume()
        eventually(lambda: "j" in peer.router.scheduler.jobs, what="the job was recorded nevertheless")
        client.send_multipart([b"", encode({"$command": "echo", "value": 5})])
        assert client.poll(60_000)
        answer = bson.decode(client.recv_multipart()[-1])
        assert answer == {"value": 5}, "an answered request is not answered again once MongoDB is back"
        assert peer.ask(**CALL)["status"]["state"] == "ready"
        assert len(peer.ask(**{"$command": "jobs"})["jobs"]) == 1
    finally:
        peer.stop()


def test_clients_keep_waiting_for_a_job_while_mongodb_is_away(
    make_settings: Callable[..., EngineSettings], database: Database[dict[str, Any]]
) -> None:
    database["zmr.job"].insert_one({"_id": "j", "state": "complete", "kind": "basic", "result": {"result": 4}})
    peer = Peer(make_settings(engine="zmq"))
    try:
        eventually(lambda: peer.router.handler.loaded, what="the router is there")
        peer.router.handler.lookups.away = StoreUnavailableError("MongoDB is away")
        settings = dataclasses.replace(make_settings(engine="zmq"), req_uri=lambda: peer.addresses["zmr.req_bind"])
        with ZmqEngine(settings) as engine:
            with pytest.raises(StoreUnavailableError):
                engine.wait("j", 3)
            with pytest.raises(StoreUnavailableError):
                engine.status("j")
            asked = iter(range(5))

            def back_after_a_while() -> str:
                if next(asked, None) is None:
                    peer.router.handler.lookups.away = None
                return peer.addresses["zmr.req_bind"]

            object.__setattr__(settings, "req_uri", back_after_a_while)
            assert engine.wait("j", 200).state == "complete"
    finally:
        peer.stop()
