from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from mapreduce.exceptions import CommitConflictError, FinalizeFailedError, OutputRefusedError, ReduceFailedError
from mapreduce.job.spec import Output
from mapreduce.step.commit import (
    IN,
    INSERT,
    LATE,
    MERGE,
    OVERLAP,
    CommitJob,
    commit,
    decide_write,
)
from mapreduce.step.replacement import PUBLISHED, prepare_replacement, publish
from tests.support.mapreduce.tasks import add, add_n, doubled, fail_to_finalize, joined, spoil

Data = Database[dict[str, Any]]
REDUCE = Output("zagg.x", "reduce")


def stamped(low: int, high: int, **changes: Any) -> CommitJob:
    return CommitJob(**{"output": REDUCE, "reduce": add, "finalize": None, "stamp": (low, high), **changes})


def stored(database: Data) -> dict[Any, Any]:
    return {document["_id"]: document for document in database["zagg.x"].find()}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, INSERT),
        ({}, MERGE),
        ({"through": 5}, MERGE),
        ({"through": 10}, MERGE),
        ({"through": 15}, OVERLAP),
        ({"through": 20}, IN),
        ({"through": 25}, LATE),
    ],
)
def test_the_decision_follows_from_the_stored_stamp(found: Any, expected: str) -> None:
    assert decide_write(found, (10, 20)) == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_any_repetition_of_runs_in_order_counts_each_range_once(steps: list[int], repeat: int) -> None:
    through: int | None = None
    taken, at = 0, 0
    for index, step in enumerate(steps):
        stamp = (at, at + step)
        for _ in range(1 + (repeat >> index) % 2):
            found = None if through is None else {"through": through}
            if decide_write(found, stamp) in (INSERT, MERGE):
                taken, through = taken + step, stamp[1]
        at += step
    assert taken == sum(steps)


def test_a_repeated_commit_changes_nothing(database: Data) -> None:
    first = commit(database, "j", stamped(0, 10), [("a", 1), ("b", 2)])
    again = commit(database, "j", stamped(0, 10), [("a", 1), ("b", 2)])
    assert (first.written, again.written, again.present) == (2, 0, 2)
    assert stored(database) == {
        "a": {"_id": "a", "value": 1, "through": 10},
        "b": {"_id": "b", "value": 2, "through": 10},
    }


def test_an_increment_is_merged_into_the_stored_document(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [("a", 1)])
    commit(database, "k", stamped(10, 20), [("a", 5), ("b", 7)])
    assert stored(database)["a"] == {"_id": "a", "value": 6, "through": 20}
    assert stored(database)["b"] == {"_id": "b", "value": 7, "through": 20}


def test_a_late_worker_changes_nothing(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [("a", 1)])
    commit(database, "k", stamped(10, 20), [("a", 5)])
    late = commit(database, "j", stamped(0, 10), [("a", 1)])
    assert late.late == 1
    assert stored(database)["a"]["value"] == 6


def test_overlapping_ranges_are_refused_by_key(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [("a", 1)])
    with pytest.raises(CommitConflictError, match=r"'a'.*10.*5 to 15"):
        commit(database, "k", stamped(5, 15), [("a", 1)])


def test_concurrent_commits_of_the_same_results_count_once(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [(n, 1) for n in range(0, 3_000, 2)])
    results = [(n, 1) for n in range(3_000)]
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        commit(database, "k", stamped(10, 20), results)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stored(database)
    assert {n: document["value"] for n, document in found.items()} == {n: 1 if n % 2 else 2 for n in range(3_000)}


def test_state_holds_the_reduced_and_value_the_finalized_result(database: Data) -> None:
    job = stamped(0, 10, finalize=doubled)
    commit(database, "j", job, [("a", 1), ("z", 0)])
    commit(database, "k", stamped(10, 20, finalize=doubled), [("a", 2)])
    assert stored(database)["a"] == {"_id": "a", "value": 6, "state": 3, "through": 20}
    assert stored(database)["z"] == {"_id": "z", "value": 0, "through": 10}  # the value is the state


def test_a_finalize_that_changes_its_argument_does_not_reach_the_state(database: Data) -> None:
    commit(database, "j", stamped(0, 10, reduce=add_n, finalize=spoil), [("a", {"n": 3})])
    assert stored(database)["a"]["state"] == {"n": 3}
    assert stored(database)["a"]["value"] == {"n": -1}


def test_a_finalize_that_raises_is_named_with_its_key(database: Data) -> None:
    with pytest.raises(FinalizeFailedError, match=r"'a'.*cannot finalize") as caught:
        commit(database, "j", stamped(0, 10, finalize=fail_to_finalize), [("a", 1)])
    assert "fail_to_finalize" in caught.value.details["traceback"]


def test_a_result_beyond_64_bits_is_named_with_its_key(database: Data) -> None:
    with pytest.raises(ReduceFailedError, match=r"result 9223372036854775808 of key 'a'.* 64 bits.* float") as caught:
        commit(database, "j", stamped(0, 10), [("b", 1), ("a", 2**63)])
    assert caught.value.details == {"key": "a"}


@pytest.mark.parametrize("nested", [False, True], ids=["number", "document"])
def test_a_sum_that_outgrows_64_bits_when_it_is_merged_is_named_with_its_key(database: Data, nested: bool) -> None:
    reduce = add_n if nested else add

    def state(number: int) -> Any:
        return {"n": number} if nested else number

    commit(database, "j", stamped(0, 10, reduce=reduce), [("a", state(2**63 - 1)), ("b", state(1))])
    with pytest.raises(ReduceFailedError, match=r"9223372036854775808.* of key 'a'.* 64 bits") as caught:
        commit(database, "k", stamped(10, 20, reduce=reduce), [("b", state(1)), ("a", state(1)), ("c", state(1))])
    assert caught.value.details == {"key": "a"}
    assert stored(database)["a"]["through"] == 10
    assert set(stored(database)) == {"a", "b"}
    assert stored(database)["b"]["through"] == 10  # readers see no half of the results


def test_results_beyond_64_bits_are_named_when_they_replace_others(database: Data) -> None:
    job = CommitJob(Output("zagg.x", "merge"), add, None, None)
    commit(database, "j", job, [("a", 10)])
    with pytest.raises(ReduceFailedError, match="-9223372036854775809 of key 'a'"):
        commit(database, "j", job, [("a", -(2**63) - 1)])


def test_a_result_that_outgrows_a_document_is_named_with_its_key(database: Data) -> None:
    half = ["x" * 2**20] * 9
    commit(database, "j", stamped(0, 10, reduce=joined), [("a", half)])
    with pytest.raises(ReduceFailedError, match=r"of key 'a'.* at most 16777216") as caught:
        commit(database, "k", stamped(10, 20, reduce=joined), [("a", half)])
    assert len(str(caught.value)) < 1_000


def test_merge_overwrites_stored_documents_of_its_keys(database: Data) -> None:
    database["zagg.x"].insert_many([{"_id": "a", "value": 1, "other": 1}, {"_id": "c", "value": 3}])
    job = CommitJob(Output("zagg.x", "merge"), add, None, None)
    commit(database, "j", job, [("a", 10), ("b", 20)])
    assert stored(database) == {
        "a": {"_id": "a", "value": 10},
        "b": {"_id": "b", "value": 20},
        "c": {"_id": "c", "value": 3},
    }


def test_merge_with_a_stamp_keeps_newer_documents(database: Data) -> None:
    database["zagg.x"].insert_many([{"_id": "a", "value": 1, "through": 30}, {"_id": "b", "value": 1, "through": 5}])
    job = CommitJob(Output("zagg.x", "merge"), add, None, (0, 20))
    counts = commit(database, "j", job, [("a", 10), ("b", 20)])
    assert counts.late == 1
    assert {k: d["value"] for k, d in stored(database).items()} == {"a": 1, "b": 20}


def test_replace_shows_its_result_in_one_step(database: Data) -> None:
    database["zagg.x"].insert_many([{"_id": "old", "value": 1}])
    job = CommitJob(Output("zagg.x", "replace"), add, None, None)
    prepare_replacement(database, "j", "zagg.x")
    commit(database, "j", job, [("a", 10)])
    assert set(stored(database)) == {"old"}
    publish(database, "j", "zagg.x")
    publish(database, "j", "zagg.x")
    assert set(stored(database)) == {"a"}
    assert [name for name in database.list_collection_names() if name.startswith("zmr.")] == [PUBLISHED]


@pytest.mark.parametrize("late", [[], [("a", 3)]], ids=["planner", "reducer"])
def test_results_that_a_late_step_writes_again_are_not_published(database: Data, late: list[tuple[str, int]]) -> None:
    job = CommitJob(Output("zagg.x", "replace"), add, None, None)
    prepare_replacement(database, "j", "zagg.x")
    commit(database, "j", job, [("a", 10), ("b", 20)])
    publish(database, "j", "zagg.x")
    if late:
        commit(database, "j", job, late)
    else:
        prepare_replacement(database, "j", "zagg.x")
    publish(database, "j", "zagg.x")  # the first one's success did not reach the router
    assert {k: d["value"] for k, d in stored(database).items()} == {"a": 10, "b": 20}
    assert [name for name in database.list_collection_names() if name.startswith("zmr.")] == [PUBLISHED]


def test_a_late_planner_removes_no_results(database: Data) -> None:
    prepare_replacement(database, "j", "zagg.x")
    commit(database, "j", CommitJob(Output("zagg.x", "replace"), add, None, None), [("a", 10)])
    prepare_replacement(database, "j", "zagg.x")
    publish(database, "j", "zagg.x")
    assert set(stored(database)) == {"a"}


def test_fields_of_other_writers_are_kept_when_an_increment_is_merged(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [("a", 1)])
    database["zagg.x"].update_one({"_id": "a"}, {"$set": {"dims": ["x"]}})
    commit(database, "k", stamped(10, 20), [("a", 1)])
    assert stored(database)["a"] == {"_id": "a", "value": 2, "through": 20, "dims": ["x"]}


def test_a_view_as_output_is_refused_by_name(database: Data) -> None:
    database.create_collection("base")
    database.command("create", "zagg.x", viewOn="base", pipeline=[])
    with pytest.raises(OutputRefusedError, match=r"zagg\.x is a view"):
        commit(database, "j", stamped(0, 10), [("a", 1)])


def test_documents_without_through_are_merged_once_even_when_two_try(database: Data) -> None:
    database["zagg.x"].insert_one({"_id": "a", "value": 1})
    commit(database, "j", stamped(0, 10), [("a", 1)])
    commit(database, "j", stamped(0, 10), [("a", 1)])
    assert stored(database)["a"] == {"_id": "a", "value": 2, "through": 10}


def test_a_worker_that_was_overtaken_between_its_read_and_its_write_changes_nothing(database: Data) -> None:
    commit(database, "j", stamped(0, 10), [("a", 1)])

    def overtaken(key: Any, values: Any) -> Any:
        if database["zagg.x"].count_documents({"through": 10}):
            commit(database, "k", stamped(10, 20), [("a", 2)])  # another worker of the same run
            commit(database, "l", stamped(20, 30), [("a", 4)])  # and the run after it
        return sum(values)

    counts = commit(database, "k", stamped(10, 20, reduce=overtaken), [("a", 2)])
    assert stored(database)["a"] == {"_id": "a", "value": 7, "through": 30}
    assert (counts.written, counts.late) == (0, 1)


def test_a_document_without_through_that_changed_between_the_read_and_the_write_is_read_again(database: Data) -> None:
    database["zagg.x"].insert_one({"_id": "a", "value": 1})

    def overtaken(key: Any, values: Any) -> Any:
        database["zagg.x"].update_one({"_id": "a", "value": 1}, {"$set": {"value": 100}})  # by another writer
        return sum(values)

    commit(database, "j", stamped(0, 10, reduce=overtaken), [("a", 2)])
    assert stored(database)["a"] == {"_id": "a", "value": 102, "through": 10}
