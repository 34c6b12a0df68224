"""Functions as source text: refused unless `allow_source` is on, by router and worker independently."""

from __future__ import annotations

import collections
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from mapreduce.exceptions import FunctionRefusedError, SpecError
from mapreduce.job.function_registry import Registry
from mapreduce.job.source_text import MAX_CHARACTERS, shown, text_name
from tests.support.mapreduce.cluster import Cluster

Data = Database[dict[str, Any]]
Events = list[dict[str, Any]]
MAP = """
import math

def by_type(events):
    for event in events:
        yield event["type"], math.floor(1.5)
"""
REDUCE = "def reduce(key, values):\n    return sum(values)\n"


def ask(cluster: Cluster, **request: Any) -> dict[str, Any]:
    """Send one request as a client without the library would; return the answer."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(cluster.settings.req_uri())
        socket.send(bson.encode(request))
        assert socket.poll(60_000)
        return bson.decode(socket.recv())


def job(database: Data, **changes: Any) -> dict[str, Any]:
    return {
        "$command": "mapreduce",
        "database": database.name,
        "input_names": ["event.1", "event.2"],
        "output_name": "zagg.x",
        "map_text": MAP,
        "map_name": "by_type",
        "reduce_text": REDUCE,
        "wait": True,
        **changes,
    }


def test_source_text_runs_where_it_is_allowed(cluster: Cluster, database: Data, events: Events) -> None:
    cluster.values["allow_source"] = True
    cluster.start(1)
    answer = ask(cluster, **job(database, finalize_text="def finalize(key, value): return -value"))
    assert answer["status"]["state"] == "complete", answer
    found = {document["_id"]: document["value"] for document in database["zagg.x"].find()}
    assert found == {name: -count for name, count in collections.Counter(e["type"] for e in events).items()}
    called = ask(cluster, **{"$command": "basic", "func_text": "def func(n): return n + 1", "args": [41], "wait": True})
    assert called["status"]["result"] == 42
    failed = ask(cluster, **job(database, map_text="def by_type(events):\n    raise LookupError('here')\n"))
    assert failed["status"]["error"]["code"] == "map_failed"
    assert "raise LookupError('here')" in failed["status"]["traceback"]
    wrong = ask(cluster, **job(database, map_name="missing"))
    assert wrong["error"]["code"] == "function_refused"
    assert "it defines by_type" in wrong["error"]["message"]


def test_a_worker_refuses_what_its_router_would_allow(cluster: Cluster, database: Data, events: Events) -> None:
    cluster.values["allow_source"] = True
    cluster.start(0)
    cluster.start_worker(allow_source=False)
    cluster.ready(1)
    answer = ask(cluster, **job(database))
    assert answer["status"]["state"] == "error"
    assert answer["status"]["error"]["code"] == "function_refused"
    assert "zmr.allow_source is off" in answer["status"]["error"]["message"]


def test_a_registry_refuses_source_text_by_default() -> None:
    name = text_name("reduce", REDUCE)
    for use in (Registry([]).check, lambda name: Registry([]).resolve(name, {})):
        with pytest.raises(FunctionRefusedError, match="allow_source is off"):
            use(name)
    assert Registry([], allow_source=True).resolve(name, {})("k", [1, 2]) == 3
    assert shown(name) == "text:reduce"


@pytest.mark.parametrize(
    ("function", "text", "why"),
    [
        ("os.system", "", "plain name"),
        ("reduce", "#" * (MAX_CHARACTERS + 1), "put it into a module"),
    ],
)
def test_text_that_no_request_may_contain_is_refused(function: str, text: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        text_name(function, text)


@pytest.mark.parametrize("text", ["def reduce(key", "def other(): pass", "from os import system as reduce"])
def test_text_that_does_not_define_the_function_is_refused(text: str) -> None:
    with pytest.raises(FunctionRefusedError):
        Registry([], allow_source=True).check(text_name("reduce", text))
