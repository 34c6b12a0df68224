from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import zmq
from pymongo.database import Database

from mapreduce.engine.zmq import ZmqEngine
from mapreduce.exceptions import SpecError
from mapreduce.settings import CurveKeys, EngineSettings
from mapreduce.wire.curve import Authenticator, as_client, as_server, load_keys, make_keys, write_keys
from tests.support.mapreduce.cluster import Cluster
from tests.support.mapreduce.jobs import job, types, values
from tests.support.waiting import eventually


def test_keys_are_kept_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "zmr.curve"
    assert load_keys(path) is None
    keys = make_keys()
    write_keys(path, keys)
    assert load_keys(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.secret not in repr(keys)
    with pytest.raises(SpecError, match="exists already"):
        write_keys(path, make_keys())
    path.chmod(0o644)
    with pytest.raises(SpecError, match="chmod 600"):
        load_keys(path)


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zmr.curve"
    path.write_text('{"public": "x", "secret": "y"}')
    path.chmod(0o600)
    with pytest.raises(SpecError, match="holds no CURVE keys"):
        load_keys(path)


@pytest.mark.parametrize(("theirs", "connects"), [("same", True), ("other", False), ("none", False)])
def test_only_peers_with_the_keys_can_connect(theirs: str, connects: bool) -> None:
    keys = make_keys()
    other = make_keys()
    context: zmq.Context[Any] = zmq.Context()
    authenticator = Authenticator(context, keys)
    server, client = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for socket in (server, client):
        socket.set(zmq.LINGER, 0)
    as_server(server, keys)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    shown = {"same": keys, "other": CurveKeys(other.public, other.secret), "none": None}[theirs]
    as_client(client, shown)
    if theirs == "other":
        client.set(zmq.CURVE_SERVERKEY, keys.public.encode())  # it knows the server's key, and is not known there
    client.connect(f"tcp://127.0.0.1:{port}")
    client.send(b"x")
    found = bool(server.poll(60_000 if connects else 500))
    server.close()
    client.close()
    authenticator.close()
    context.term()
    assert found == connects


def test_a_cluster_with_keys_runs_jobs_and_refuses_clients_without_keys(
    cluster: Cluster, database: Database[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    cluster.values["curve"] = asdict(make_keys())
    cluster.start(2)
    assert cluster.engine.run(job(database, "wide"), 200).state == "complete"  # fetched from the other worker
    database["zagg.x"].drop()
    cluster.engine.run(job(database), 200)
    assert values(database) == types(events)
    bare = cluster.settings
    stranger = EngineSettings(**{**bare.__dict__, "curve": None})
    with ZmqEngine(stranger) as engine:
        assert not engine.ping(1.0)


def test_a_worker_with_other_keys_is_refused_and_reports_it(cluster: Cluster) -> None:
    cluster.values["curve"] = asdict(make_keys())
    cluster.start_router()
    cluster.start_worker(curve=asdict(make_keys()))
    eventually(lambda: "has the same keys" in cluster.log(), what="the worker says that it hears nothing")
    assert cluster.engine.config()["workers"] == []
