"""Every job is checked once, however it arrives: as a request, a submitted description, or a record."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.code import Code
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from pymongo.errors import (
    AutoReconnect,
    CollectionInvalid,
    DocumentTooLarge,
    InvalidName,
    InvalidOperation,
    OperationFailure,
)

from mapreduce.exceptions import MapReduceError, SpecError
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.request import SubmitRequest, parse
from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.job.spec_check import checked_spec
from mapreduce.router.request_handler import load_job
from mapreduce.scheduler.job_limits import JobLimits
from mapreduce.step.replacement import replacement_name, replacement_owner
from mapreduce.store_error import as_engine_error, may_have_moved
from mapreduce.worker.locked_folder import job_folder, remove_job
from mapreduce.worker.map_output_store import MapOutputStore

T = "tests.support.mapreduce.tasks:"
JOB: dict[str, Any] = {
    "$command": "mapreduce",
    "database": "eye",
    "input_names": ["event.1"],
    "output_name": "zagg.t",
    "output_type": "merge",
    "map_name": T + "by_type",
    "reduce_name": T + "add",
}
WEIRD = (
    True, 5, 1.5, float("nan"), "", "a\0b", "..", "$x", Code("x"), Code("x", {"a": 1}), [], ["a"], [[1]], {}, {"a": 1},
    {"$where": "1"}, None, b"x", ObjectId(), Regex("a"), Decimal128("1"), MinKey(), DBRef("c", 1),
    Int64(2**40), "x" * 300,
)  # fmt: skip


def over_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(document))


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("job_id", [".", "..", "a..b", ".x", "x.", "a/b", "", "x" * 65, 5, Code("a"), Code("a", {}), "\u00e4"]),
        ("database", [Code("eye"), "admin", "Config", "local", "ey*e", "a.b", "x" * 64, "", 5, None]),
        (
            "input_names",
            ["event.1", [], [5], ["a..b"], ["$x"], [".x"], ["x."], ["x\0y"], ["system.users"], ["x" * 252]],
        ),
        ("output_name", ["zagg..x", "zagg.", "zagg.x.", "zagg.$x", "zagg." + "x" * 300, "event", 5, Code("zagg.x")]),
        ("output_type", [[], {}, Code("merge"), Regex("merge"), Decimal128("1"), "append"]),
        ("fields", ["k", True, 5, 1.5, ObjectId(), DBRef("a", 1), [5], ["a..b"], ["$a"], ["a\0b"], [""]]),
        ("id_key", [5, "a\0b", "$a", "a.", Code("k")]),
        ("id_min", [Regex("a"), [1], float("nan"), deep(195), Code("a")]),
        ("id_max", [Regex("a"), {"a": float("nan")}]),
        ("stamp", [1, [1], [1, Regex("a")], {"a": 1}]),
        ("map_name", [5, Code("a:b"), Code("a:b", {}), "no colon", "a:b\0"]),
        ("reduce_name", [Code("a:b"), []]),
        ("finalize_name", [Code("a:b"), {}]),
        ("reduce_count", [1.5, 0, -1, True, "5", 10**9]),
        ("map_job_size", [2.5, 0, "x", Int64(2**40)]),
        ("split_limit_s", ["x", -5, 0, True, float("nan"), float("inf"), 10**6, []]),
        ("wait", ["false", 0, "no", []]),
        ("associative", ["no", 1, {}]),
        ("on_error", ["shrug", 5, [], Code("fail")]),
        ("params", [5, [], "x"]),
        ("query", [5, "x", [{}], {"a": deep(150)}, {"a": "x" * 9 * 2**20}]),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SpecError) as caught:
            parse(over_the_wire({**JOB, key: value}))
        name = "output" if key == "output_name" else "job's description" if "9437" in caught.value.message else key
        assert name in caught.value.message, value
        assert len(caught.value.message) < 1_000


@pytest.mark.parametrize(
    "request_",
    [
        {"$command": "cancel"},
        {"$command": "cancel", "job_id": 5},
        {"$command": "cancel", "job_id": {"a": 1}},
        {"$command": "status", "job_id": Code("a", {})},
        {"$command": "status", "job_id": "a", "wait_s": "1"},
        *({"$command": "jobs", "limit": limit} for limit in ("x", -1, 0, 1.5, True, 10**6)),
        {"$command": "basic", "func_name": 5},
        {"$command": "basic", "func_name": "a:b", "args": {}},
        {"$command": "basic", "func_name": "a:b", "kwargs": []},
        {"$command": "basic", "func_name": "a:b", "job_id": ".."},
        {"$command": "basic", "func_name": "a:b", "args": ["x" * 9 * 2**20]},
        {"$command": Code("echo")},
        {"$command": ["echo"]},
        {"$command": "submit", "spec": 5},
        {"$command": "submit", "spec": {}},
    ],
)
def test_the_input_of_other_commands_is_checked_too(request_: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        parse(over_the_wire(request_))


def test_any_job_description_is_accepted_or_rejected() -> None:
    """Cover `submit`, records, and descriptions made in Python."""
    plain = JobSpec("eye", (Source(("event.1",), "m:f", {"a": 1}),), {"": Output("zagg.x")}, "m:r", job_id="j")
    limits = JobLimits(4, 16, 16, 600.0)
    refused = 0
    for field_, value in itertools.product(fields(JobSpec), WEIRD):
        document = {**plain.to_document(), field_.name: value}
        record = {"_id": "j", "kind": "mapreduce", "state": "map", "spec": document}
        for way in (
            lambda d=document: parse({"$command": "submit", "spec": d}),
            lambda r=record: load_job(r, limits, 0.0),
            lambda n=field_.name, v=value: checked_spec(replace(plain, **{n: v})).digest(),
        ):
            try:
                way()
            except SpecError:
                refused += 1
    for part, name, value in itertools.product(("sources", "outputs"), ("input_names", "query", "label"), WEIRD):
        document = plain.to_document()
        document[part][0][name] = value
        try:
            parse({"$command": "submit", "spec": document})
        except SpecError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "mapreduce", "state": "map"},
        {"kind": "basic", "state": "ready", "spec": 5},
        {"kind": "basic", "state": "ready", "spec": {"job_id": "j", "func_name": "a:b", "arguments": b"x", "code": []}},
        {"kind": "basic", "state": "ready", "spec": CallSpec("other", "a:b", bson.encode({"args": []})).to_document()},
        {"kind": 5, "state": 5, "spec": {}},
    ],
)
def test_a_record_that_describes_no_job_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        load_job({"_id": "j", **record}, JobLimits(4, 16, 16, 600.0), 0.0)


@pytest.mark.parametrize(
    "query",
    [
        {"$where": "return true"},
        {"$and": [{"a": 1}, {"$or": [{"$where": Code("1")}]}]},
        {"a": {"$elemMatch": {"$where": "1"}}},
        {"$expr": {"$function": {"body": "x", "args": [], "lang": "js"}}},
        {"$expr": {"$gt": [{"$add": [1, {"$accumulator": {}}]}, 1]}},
        {"a": {"$unheard": 1}},
    ],
)
def test_a_filter_that_runs_code_is_refused_unless_source_is_allowed(query: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="query"):
        parse({**JOB, "query": query})
    if "$unheard" not in str(query):
        assert isinstance(parse({**JOB, "query": query}, allow_source=True), SubmitRequest)


def test_a_filter_that_compares_is_accepted() -> None:
    query = {
        "type": {"$in": ["a", Regex("^b")]},
        "$or": [{"a": {"$exists": True}}, {"b": {"$not": {"$gte": 5, "$lt": 9}}}],
        "tags": {"$elemMatch": {"$eq": "x"}},
        "$expr": {"$gt": ["$a", {"$multiply": ["$b", 2]}]},
    }
    found = parse(over_the_wire({**JOB, "query": query}))
    assert isinstance(found, SubmitRequest)
    assert isinstance(found.spec, JobSpec)
    assert found.spec.sources[0].query == query


def test_each_job_id_has_its_own_folder_and_reaches_no_other(tmp_path: Path) -> None:
    ids = ["a", "A", "a:b", "a_b", "a.b", "a-b", "a~b", "a:b.c", "x" * 64]
    good = [job_id for job_id in ids if job_id != "a~b"]
    assert len({job_folder(tmp_path, job_id) for job_id in good}) == len(good)
    assert all(job_folder(tmp_path, job_id).parent == tmp_path for job_id in good)
    for bad in (".", "..", "", "a/b", "../x", "a~b", "a\0", "x" * 65):
        with pytest.raises(SpecError):
            job_folder(tmp_path, bad)
        with pytest.raises(SpecError):
            remove_job(tmp_path, bad)
    assert tmp_path.exists()


def test_the_end_of_a_job_removes_its_files_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "worker-x"
    map_outputs = MapOutputStore(root)
    for job_id in ("a:b", "a_b"):
        map_outputs.job_folder(job_id).mkdir(parents=True)
    (root / "lock").touch()
    map_outputs.forget("a:b")
    for bad in ("..", "."):
        with pytest.raises(SpecError):
            map_outputs.forget(bad)
    assert sorted(path.name for path in root.iterdir()) == ["job.a_b", "lock"]


def test_a_collection_of_unpublished_results_names_exactly_one_job() -> None:
    ids = ["a", "a.zagg.b", "a.b", "a-b", "a:b", "x" * 64]
    names = [replacement_name("zagg.x", job_id) for job_id in ids]
    assert len(set(names)) == len(ids)
    assert [replacement_owner(name) for name in names] == ids


@pytest.mark.parametrize(
    ("error", "code", "retryable", "moved"),
    [
        (AutoReconnect("gone"), "store_unavailable", True, True),
        (OperationFailure("no login", 18), "store_unavailable", True, True),
        (OperationFailure("No keys found for HMAC", 211), "store_unavailable", True, True),
        (OperationFailure("stepped down", 189), "store_unavailable", True, False),
        (OperationFailure("bad value", 2), "store_refused", False, False),
        (OperationFailure("too big", 10334), "store_refused", False, False),
        (InvalidName("collection names cannot be empty"), "store_refused", False, False),
        (InvalidOperation("x"), "store_refused", False, False),
        (CollectionInvalid("x"), "store_refused", False, False),
        (DocumentTooLarge("x"), "store_refused", False, False),
    ],
)
def test_only_temporary_errors_are_retried(error: Exception, code: str, retryable: bool, moved: bool) -> None:
    known = as_engine_error(error)
    assert known is not None
    assert (known.code, known.retryable, may_have_moved(error)) == (code, retryable, moved)


def test_a_refusal_shows_mongodbs_message_but_not_its_whole_reply() -> None:
    reply = {"errmsg": "wrong type", "$clusterTime": {"signature": "secret"}}
    known = as_engine_error(OperationFailure("wrong type, full error: secret", 14, reply))
    assert isinstance(known, MapReduceError)
    assert re.fullmatch(r"MongoDB refused: wrong type \(code 14\)", known.message)
