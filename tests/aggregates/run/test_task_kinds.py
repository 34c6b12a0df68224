"""Runs of each kind of task: what it writes, calls and is given, and why it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from aggregates.exceptions import OutputTakenError, TaskError
from aggregates.run.context import RunContext
from tests.support.aggregates import tasks
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import Producer, event


def test_the_finalized_value_is_shown_and_the_state_is_what_increments_continue_from(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Mean")
    for numbers in ((1, 2), (6, 7)):
        producer.send(*(event("m", n=n) for n in numbers))
        run(definition)
    assert values(run_context.database, "mean") == {"m": 4.0}
    right(definition)


def test_a_task_that_is_not_associative_runs_in_full_each_time(run, run_context: RunContext, producer: Producer, right):
    definition = define("Median")
    for numbers, median in (((1, 5, 9), 5), ((2, 3), 3)):
        producer.send(*(event("m", n=n) for n in numbers))
        assert run(definition).mode == "full"
        assert values(run_context.database, "median") == {"m": median}
    assert run(definition).state == "nothing"
    right(definition)


def test_a_task_in_the_style_of_2011_writes_to_the_output_that_it_names(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Style2011", name="agg")
    producer.send(event("a"), event("b"), event("a"))
    assert run(definition).outputs == ("of_2011",)
    assert values(run_context.database, "of_2011") == {"a": 2, "b": 1}
    right(definition)


def test_two_calls_for_one_output_are_one_job(run, run_context: RunContext, producer: Producer, right):
    definition = define("TwoSources")
    producer.send(event("a", project="a"), event("b", project="x"))
    assert len(run(definition).counts.job_ids) == 1
    assert values(run_context.database, "both") == {"a": 2, "b": 1}
    producer.send(event("a", project="y"))
    run(definition)
    assert values(run_context.database, "both") == {"a": 3, "b": 1, "y": 1}
    right(definition)


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("TwoOutputs", ("one", "other")),
        ("Labelled", ("labelled.types", "labelled.projects")),
        ("PerType", ("pertype.a", "pertype.b")),
        ("WithSubtasks", ("of_2011", "one", "other")),
    ],
)
def test_every_output_of_a_task_is_kept_correct(task, outputs, run, run_context: RunContext, producer: Producer, right):
    definition = define(task)
    producer.send(event("a"))
    run(definition)
    producer.send(event("b", project="q"), event("a"))
    run(definition)
    right(definition)
    views = set(run_context.database.list_collection_names(filter={"type": "view"}))
    assert {f"zagg.{name}" for name in outputs} <= views
    assert sum(values(run_context.database, outputs[0]).values()) in (2, 3)


def test_a_basic_job_is_called_once_the_results_are_written(run, producer: Producer):
    tasks.CALLS.clear()
    producer.send(event("a"))
    run(define("WithCall"))
    assert tasks.CALLS == [("hello", True)]


def test_parameters_reach_the_workers(run, run_context: RunContext, producer: Producer, right):
    definition = define("Scaled", params={"factor": 5})
    producer.send(event("a"))
    run(definition)
    assert values(run_context.database, "scaled") == {"a": 5}
    right(definition)


@pytest.mark.parametrize(
    ("task", "words"), [("Lambda", "cannot be found by name"), ("Idle", "starts no job"), ("Nothing", "no such task")]
)
def test_a_task_that_cannot_run_is_refused_with_the_reason(task, words, run):
    with pytest.raises(TaskError, match=words):
        run(define(task))


def test_an_output_belongs_to_one_aggdef(run, run_context: RunContext, producer: Producer):
    run(define("Style2011", name="first"))
    with pytest.raises(OutputTakenError, match="'first'"):
        run(define("Style2011", name="second"))
    run_context.database["zagg.mine"].insert_one({})
    with pytest.raises(OutputTakenError, match=r"zagg\.mine"):
        run(define("CountByDay", name="mine"))


def test_the_query_given_to_a_task_selects_the_events_of_the_run(
    run, run_context: RunContext, producer: Producer, monkeypatch
):
    seen: list[Any] = []

    def start(self: Any, socket: Any, full: bool) -> None:
        seen.append((full, self.db.event.count_documents(self.query)))
        self.start_mr(socket, "asked", full, map=tasks.by_type, reduce=tasks.add)

    monkeypatch.setattr(tasks.Style2011, "_start_jobs", start)
    definition = define("Style2011", filter={"type": "a"})
    producer.send(event("a"), event("b"))
    run(definition)
    producer.send(event("a"), event("a"))
    run(definition)
    assert seen[-1] == (False, 2)
    assert (True, 1) in seen
