"""Both engines give the same results for the same job."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from bson.int64 import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapreduce.engine import Engine, open_engine
from mapreduce.exceptions import FunctionRefusedError, JobConflictError, JobFailedError, SpecError
from mapreduce.job.spec import UNKNOWN, JobSpec, Output, Source
from mapreduce.key import identity
from mapreduce.settings import EngineSettings
from tests.support.mapreduce.jobs import Data, Events, T, types, values


def job(database: Data, map_name: str = "by_type", **changes: Any) -> JobSpec:
    values: dict[str, Any] = {
        "database": database.name,
        "sources": (Source(("event.1", "event.2"), T + map_name),),
        "outputs": {"": Output("zagg.x", "replace")},
        "reduce_name": T + "add",
        **changes,
    }
    return JobSpec(**values)


def test_all_events_of_all_partitions_are_counted_once(engine: Engine, database: Data, events: Events) -> None:
    status = engine.run(job(database), 200)
    assert values(database) == types(events)
    assert status.progress["docs_in"] == len(events)
    assert status.progress["splits"] == status.progress["splits_done"] == 5
    assert status.progress["keys_out"] == len(types(events))


def test_only_ids_above_min_up_to_max_are_read(engine: Engine, database: Data, events: Events) -> None:
    engine.run(job(database, id_min=2_500, id_max=3_500), 200)
    assert values(database) == types(events, 2_500, 3_500)


def test_increments_add_up_and_a_repeat_changes_nothing(engine: Engine, database: Data, events: Events) -> None:
    output = {"": Output("zagg.x", "reduce")}
    for low, high in ((0, 1_000), (1_000, 4_000), (1_000, 4_000), (4_000, 5_000)):
        status = engine.run(job(database, outputs=output, id_min=low, id_max=high), 200)
        assert status.state == "complete"
    assert values(database) == types(events)
    assert set(database["zagg.x"].distinct("through")) == {5_000}


def test_a_query_selects_documents(engine: Engine, database: Data, events: Events) -> None:
    source = Source(("event.1", "event.2"), T + "by_type", query={"type": {"$in": ["a", "b"]}, "_id": {"$ne": 8}})
    engine.run(job(database, sources=(source,)), 200)
    assert values(database) == types([e for e in events if e["type"] in "ab" and e["_id"] != 8])


def test_a_view_over_partitions_reads_the_partitions(engine: Engine, database: Data, events: Events) -> None:
    database.command("create", "event", viewOn="event.1", pipeline=[{"$unionWith": "event.2"}])
    status = engine.run(job(database, sources=(Source(("event",), T + "by_type"),), id_min=100), 60)
    assert values(database) == types(events, 100)
    assert status.progress["splits"] == 5


def test_a_view_that_computes_is_read_whole(engine: Engine, database: Data, events: Events) -> None:
    database.command("create", "some", viewOn="event.1", pipeline=[{"$match": {"type": "a"}}])
    engine.run(job(database, sources=(Source(("some",), T + "by_type"),), id_max=500), 60)
    assert values(database) == types([event for event in events if event["type"] == "a"], 0, 500)


def test_a_map_sees_only_the_projected_fields(engine: Engine, database: Data, events: Events) -> None:
    source = Source(("event.1",), T + "by_day", fields=("timestamp", "project", "project.name"))
    engine.run(job(database, sources=(source,)), 200)
    expected = collections.Counter(f"{e['project']}/{e['timestamp']:%Y-%m-%d}" for e in events if e["_id"] <= 3_000)
    assert values(database) == expected


def test_several_sources_feed_one_shuffle(engine: Engine, database: Data, events: Events) -> None:
    sources = (Source(("event.1",), T + "by_type"), Source(("event.2",), T + "by_day"))
    engine.run(job(database, sources=sources), 200)
    later = collections.Counter(f"{e['project']}/{e['timestamp']:%Y-%m-%d}" for e in events if e["_id"] > 3_000)
    assert values(database) == {**types(events, 0, 3_000), **later}


def test_several_outputs_in_one_pass(engine: Engine, database: Data, events: Events) -> None:
    outputs = {"types": Output("zagg.t", "merge"), "days": Output("zagg.d", "replace")}
    status = engine.run(job(database, "two_outputs", outputs=outputs), 200)
    assert values(database, "zagg.t") == types(events)
    assert values(database, "zagg.d") == collections.Counter(f"{e['timestamp']:%Y-%m-%d}" for e in events)
    assert set(status.progress["outputs"]) == {"types", "days"}


def test_a_pattern_names_outputs_that_are_not_known_in_advance(engine: Engine, database: Data, events: Events) -> None:
    engine.run(job(database, "two_outputs", outputs={"*": Output("zagg.all.*", "merge")}), 200)
    assert values(database, "zagg.all.types") == types(events)


def test_an_undeclared_output_ends_the_job_in_error(engine: Engine, database: Data, events: Events) -> None:
    with pytest.raises(JobFailedError, match=r"'days'.*types"):
        engine.run(job(database, "two_outputs", outputs={"types": Output("zagg.t", "merge")}), 200)


def test_methods_run_on_an_instance_with_the_params(engine: Engine, database: Data, events: Events) -> None:
    spec = job(database, "Weighted.map", reduce_name=T + "Weighted.reduce", params={"weight": 3})
    engine.run(spec, 200)
    assert values(database) == {name: 3 * count for name, count in types(events).items()}


def test_finalize_sees_each_key_once_after_all_increments(engine: Engine, database: Data, events: Events) -> None:
    output = {"": Output("zagg.x", "reduce")}
    for low, high in ((0, 1_000), (1_000, 5_000)):
        spec = job(database, outputs=output, id_min=low, id_max=high, finalize_name=T + "doubled")
        engine.run(spec, 200)
    assert values(database) == {name: 2 * count for name, count in types(events).items()}
    assert {d["_id"]: d["state"] for d in database["zagg.x"].find()} == types(events)


def test_a_reduce_that_is_not_associative_gets_all_values_at_once(
    engine: Engine, database: Data, events: Events
) -> None:
    database["input"].insert_many([{"_id": n, "pairs": [["k", n]]} for n in range(1, 2_501)])
    source = Source(("input",), T + "as_given")
    engine.run(job(database, sources=(source,), reduce_name=T + "average", associative=False), 200)
    assert values(database) == {"k": 1250.5}


def test_without_a_map_documents_are_taken_as_results(engine: Engine, database: Data) -> None:
    database["one"].insert_many([{"_id": "a", "value": 1}, {"_id": "b", "value": 2}])
    database["two"].insert_many([{"_id": "a", "value": 5}])
    engine.run(job(database, sources=(Source(("one", "two"), None),)), 60)
    assert values(database) == {"a": 6, "b": 2}


def test_without_a_reduce_each_key_may_have_only_one_value(engine: Engine, database: Data) -> None:
    database["one"].insert_many([{"_id": "a", "value": 1}, {"_id": "b", "value": 2}])
    spec = job(database, sources=(Source(("one",), None),), reduce_name=None)
    engine.run(spec, 200)
    assert values(database) == {"a": 1, "b": 2}
    with pytest.raises(JobFailedError, match=r"several values.*no reduce"):
        engine.run(job(database, sources=(Source(("one", "one2"), None),) * 2, reduce_name=None), 60)


def test_no_events_give_an_empty_output(engine: Engine, database: Data) -> None:
    database["zagg.x"].insert_one({"_id": "old", "value": 1})
    status = engine.run(job(database), 200)
    assert status.progress["splits"] == 0
    assert values(database) == {}


@pytest.mark.parametrize(
    ("map_name", "code", "detail"),
    [
        ("fail_on_seven", "map_failed", {"document_id": 7}),
        ("read_ahead_and_fail", "map_failed", {"document_id": 7}),
        ("no_pairs", "map_failed", {}),
        ("list_keys", "key_refused", {}),
        ("unstorable", "map_failed", {}),
    ],
)
def test_a_map_that_fails_ends_the_job_and_is_named(
    engine: Engine, database: Data, events: Events, map_name: str, code: str, detail: dict[str, Any]
) -> None:
    status = engine.wait(engine.submit(job(database, map_name, reduce_name=None)), 200)
    assert status.state == "error"
    assert status.error is not None
    assert status.error["code"] == code
    assert detail.items() <= status.error["details"].items()
    if detail:
        assert status.traceback is not None
        assert status.traceback.count("File ") == 1
        assert f"in {map_name}" in status.traceback


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reduce_name": T + "fail_to_add"}, "reduce_failed"),
        ({"finalize_name": T + "fail_to_finalize"}, "finalize_failed"),
    ],
)
def test_a_reduce_or_finalize_that_fails_is_named_with_its_key(
    engine: Engine, database: Data, events: Events, changes: dict[str, Any], code: str
) -> None:
    status = engine.wait(engine.submit(job(database, **changes)), 200)
    assert status.error is not None
    assert (status.state, status.error["code"]) == ("error", code)
    assert status.error["details"]["key"] in types(events)
    assert "cannot" in (status.traceback or "")


@pytest.mark.parametrize("map_name", ["fail_on_seven", "read_ahead_and_fail"])
def test_on_error_skip_leaves_out_the_document_and_names_it(
    engine: Engine, database: Data, events: Events, map_name: str
) -> None:
    status = engine.run(job(database, map_name, on_error="skip"), 200)
    assert values(database) == types([event for event in events if event["_id"] != 7])
    assert (status.progress["skipped_count"], status.progress["skipped_ids"]) == (1, [7])


def test_a_job_submitted_again_is_the_same_job(engine: Engine, database: Data, events: Events) -> None:
    spec = job(database, outputs={"": Output("zagg.x", "merge")})
    engine.run(spec, 200)
    database["event.1"].delete_many({})
    assert engine.submit(spec) == spec.job_id
    assert engine.wait(spec.job_id, 200).state == "complete"
    assert values(database) == types(events)
    with pytest.raises(JobConflictError, match=spec.job_id):
        engine.submit(job(database, "by_day", job_id=spec.job_id))


def test_a_wrong_job_is_refused_before_it_starts(engine: Engine, database: Data) -> None:
    with pytest.raises(SpecError, match=r"zagg\."):
        engine.submit(job(database, outputs={"": Output("event.1", "merge")}))
    with pytest.raises(SpecError, match="stamp"):
        engine.submit(job(database, outputs={"": Output("zagg.x", "reduce")}))
    with pytest.raises(FunctionRefusedError, match="nothing_here"):
        engine.submit(job(database, "nothing_here"))


def test_a_call_returns_what_the_function_returned(engine: Engine) -> None:
    assert engine.call(T + "multiply", [6], {"other": 7}, 200) == 42
    with pytest.raises(JobFailedError, match="nothing there"):
        engine.call(T + "raise_it", timeout_s=200)


def test_an_unknown_job_says_so(engine: Engine) -> None:
    assert engine.status("no-such-job").state == UNKNOWN
    assert engine.cancel("no-such-job").state == UNKNOWN
    assert engine.ping(5)


def test_input_can_be_split_by_another_id_key(engine: Engine, database: Data) -> None:
    database["input"].insert_many([{"at": f"t{n // 3:05d}", "pairs": [["k", 1]]} for n in range(4_000)])
    source = Source(("input",), T + "as_given", id_key="at")
    with pytest.raises(JobFailedError, match="'at' has no index"):
        engine.run(job(database, sources=(source,)), 200)
    database["input"].create_index("at")
    status = engine.run(job(database, sources=(source,), map_job_size=500), 200)
    assert values(database) == {"k": 4_000}
    assert status.progress["splits"] > 3


big = st.sampled_from([2**31, -(2**31) - 1, 2**53 + 1, Int64(2**63 - 1), 5e9])
keys = st.text("ab", max_size=2) | st.integers(-2, 2) | big | st.floats(-1, 1, width=16) | st.booleans() | st.none()
pairs = st.tuples(keys, st.integers(-100, 100)).map(list)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    documents=st.lists(st.lists(pairs, max_size=4), max_size=30),
    size=st.integers(1, 12),
    count=st.integers(1, 5),
)
def test_the_engine_equals_the_definition_of_map_reduce(
    engine: Engine, database: Data, documents: list[Any], size: int, count: int
) -> None:
    database.drop_collection("input")
    database["input"].insert_one({"_id": 0, "pairs": []})
    if documents:
        database["input"].insert_many([{"_id": n, "pairs": found} for n, found in enumerate(documents, 1)])
    source = Source(("input",), T + "as_given")
    engine.run(job(database, sources=(source,), map_job_size=size, reduce_count=count), 200)

    mapped = sorted(((identity(k)[0], v) for found in documents for k, v in found), key=lambda pair: repr(pair[0]))
    expected = {k: sum(v for _, v in group) for k, group in itertools.groupby(mapped, key=lambda pair: pair[0])}
    assert {identity(d["_id"])[0]: d["value"] for d in database["zagg.x"].find()} == expected


def test_equal_numbers_of_different_types_are_one_key(engine: Engine, database: Data) -> None:
    given_keys = [1, 1.0, Int64(1), True, "1"]
    database["input"].insert_many([{"_id": n, "pairs": [[key, 1]]} for n, key in enumerate(given_keys)])
    engine.run(job(database, sources=(Source(("input",), T + "as_given"),), map_job_size=1), 60)
    found = {(type(d["_id"]).__name__, d["_id"]): d["value"] for d in database["zagg.x"].find()}
    assert found == {("int", 1): 3, ("bool", True): 1, ("str", "1"): 1}


@pytest.mark.parametrize("kind", ["replace", "merge", "reduce"])
def test_an_output_that_is_a_view_is_refused_before_anything_is_read(engine: Engine, database: Data, kind: str) -> None:
    database["event.1"].insert_many([{"_id": number, "type": "a"} for number in range(1, 11)])
    database["real"].insert_one({"_id": "a", "value": "no number"})
    database.create_collection("zagg.view", viewOn="real")
    spec = JobSpec(
        database=database.name,
        sources=(Source(("event.1",), T + "by_type"),),
        outputs={"": Output("zagg.view", kind)},  # type: ignore[arg-type]
        reduce_name=T + "add",
        stamp=(0, 10),
    )
    status = engine.wait(engine.submit(spec), 200)
    assert status.error is not None
    assert status.error["code"] == "output_refused"
    assert status.progress.get("docs_in", 0) == 0


def test_a_folder_that_the_inline_engine_cannot_use_ends_the_job_in_an_error(
    make_settings: Callable[..., EngineSettings], database: Data, events: Events
) -> None:
    settings = make_settings()
    settings.job_root.write_text("")
    with open_engine(settings) as engine:
        status = engine.wait(engine.submit(job(database)))
    assert status.error is not None
    assert (status.state, status.error["code"]) == ("error", "worker_unable")
    assert f"zmr.job_root {settings.job_root} cannot be used" in status.error["message"]
