"""Changed code, cancelled runs and restored databases are reported, and never produce half a result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aggregates.definition.definition import Definition
from aggregates.exceptions import RunCancelledError, RunFailedError
from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from aggregates.run.incremental import accept_change, refresh
from aggregates.run.outcome import Outcome
from mapreduce.engine import Engine, open_engine
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import CANCELLED, JobSpec, JobStatus
from tests.support.aggregates.definitions import MODULES, define, engine_settings, values
from tests.support.aggregates.event_source import Producer, event

TASK = """
from aggregates.task import Task

class Changing(Task):
    def map(self, events):
        for event in events:
            yield {key}, 1

    def reduce(self, key, values):
        return {reduce}
"""


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that rewrites the task file."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(key: str = "event['type']", reduce: str = "sum(values)") -> None:
        (tmp_path / "changing_tasks.py").write_text(TASK.format(key=key, reduce=reduce))

    write()
    yield write
    sys.modules.pop("changing_tasks", None)


@pytest.fixture
def changing(save: Any) -> Definition:
    return Definition(name="changing", task_name="changing_tasks.Changing", output="changing")


class Restarting(Engine):
    """The inline engine, which forgets its jobs and loaded code on `restart`, as a new process would."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine = make()
        self.cancelled: set[str] = set()

    def restart(self) -> None:
        self._engine.close()
        self._engine = self._make()

    def submit(self, spec: JobSpec, *, durable: bool = True) -> str:
        return self._engine.submit(spec, durable=durable)

    def _start_call(self, call: CallSpec) -> None:
        self._engine._start_call(call)

    def status(self, job_id: str) -> JobStatus:
        return JobStatus(job_id, CANCELLED) if job_id in self.cancelled else self._engine.status(job_id)

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        return self.status(job_id)

    def cancel(self, job_id: str) -> JobStatus:
        return self._engine.cancel(job_id)

    def jobs(self) -> list[JobStatus]:
        return self._engine.jobs()

    def ping(self, timeout_s: float = 1.0) -> bool:
        return True

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def engine(mongo_uri: str, database: Any, tmp_path: Path) -> Iterator[Restarting]:
    import dataclasses

    settings = engine_settings(mongo_uri, database.name, tmp_path / "zmr")
    settings = dataclasses.replace(settings, allowed_modules=(*settings.allowed_modules, "changing_tasks"))
    with Restarting(lambda: open_engine(settings)) as opened:
        yield opened


@pytest.fixture
def run_context(database: Any, store: Any, producer: Producer, engine: Restarting) -> RunContext:
    modules = (*MODULES, "changing_tasks")
    return RunContext(database, store, engine, modules, durable_jobs=False, grace_s=0)


def crash_at(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(found: str) -> None:
        if found == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(failpoint, "hook", reach)


@pytest.fixture
def leave_half_done(
    run: Any, run_context: RunContext, producer: Producer, changing: Definition, monkeypatch: Any
) -> Callable[[], None]:
    """Leave one event aggregated and the run over a second one killed after its jobs."""

    def leave() -> None:
        producer.send(event("a"))
        run(changing)
        producer.send(event("a"))
        with monkeypatch.context() as patch:
            crash_at("jobs_done", patch)
            with pytest.raises(KeyboardInterrupt):
                refresh(run_context, changing)

    return leave


@pytest.fixture
def blocked(run: Any, producer: Producer, engine: Restarting, changing: Definition, save: Any) -> Outcome:
    """Aggregate an event, change the code of the task, and return the outcome of the run over another event."""
    producer.send(event("a"))
    run(changing)
    save(key="event['type'].upper()")
    engine.restart()
    producer.send(event("a"))
    outcome: Outcome = run(changing)
    return outcome


def test_a_changed_task_waits_for_a_full_run_and_never_mixes_old_and_new(
    blocked, run, run_context, producer, engine, changing, save, right
):
    assert blocked.state == "blocked"
    assert "code of the task has changed" in blocked.due
    assert values(run_context.database, "changing") == {"a": 1}
    done = full_run(run_context, changing)
    assert done.due == ""
    assert values(run_context.database, "changing") == {"A": 2}
    right(changing)


def test_a_changed_helper_is_detected_and_unrelated_changes_are_not(
    run, run_context, producer, engine, changing, save, tmp_path, right
):
    helper = tmp_path / "changing_helper.py"
    helper.write_text("W = 1\n\ndef unused():\n    return 1\n")
    module = tmp_path / "changing_tasks.py"
    save(key="event['type'] * helper.W")
    module.write_text("import changing_helper as helper\n" + module.read_text())
    engine.restart()
    producer.send(event("a"))
    assert run(changing).state == "complete"
    module.write_text(module.read_text() + "\n\nclass Neighbour(Task):\n    pass\n")
    helper.write_text(helper.read_text().replace("return 1", "return 2"))
    engine.restart()
    producer.send(event("a"))
    outcome = run(changing)
    assert (outcome.mode, outcome.state, outcome.due) == ("incremental", "complete", "")
    helper.write_text("W = 3\n")
    engine.restart()
    producer.send(event("a"))
    assert run(changing).state == "blocked"
    assert values(run_context.database, "changing") == {"a": 2}
    full_run(run_context, changing)
    assert values(run_context.database, "changing") == {"aaa": 3}
    right(changing)
    sys.modules.pop("changing_helper", None)


def test_a_range_continues_after_an_unrelated_change_in_its_file(
    run, run_context, engine, changing, leave_half_done, right, tmp_path
):
    leave_half_done()
    module = tmp_path / "changing_tasks.py"
    module.write_text(module.read_text() + "\n\nclass Neighbour(Task):\n    pass\n")
    engine.restart()
    outcome = run(changing)
    assert (outcome.mode, outcome.state) == ("incremental", "complete")
    assert values(run_context.database, "changing") == {"a": 2}
    right(changing)


def test_a_changed_definition_requires_a_full_run(run, run_context, producer):
    producer.send(event("a"), event("b"))
    run(define("CountByDay"))
    producer.send(event("a"))
    narrower = define("CountByDay", filter={"type": "a"})
    waiting = run(narrower)
    assert waiting.state == "blocked"
    assert "definition" in waiting.due
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 2}
    assert full_run(run_context, narrower).due == ""
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 2}


def test_a_code_change_during_an_unfinished_run_blocks_until_a_full_run(
    run, run_context, producer, engine, changing, leave_half_done, save, right
):
    leave_half_done()
    assert values(run_context.database, "changing") == {"a": 2}
    save(key="event['type'].upper()")
    engine.restart()
    outcome = run(changing)
    assert outcome.state == "blocked"
    assert "half done" in outcome.reason
    assert run(changing).state == "blocked"
    full_run(run_context, changing)
    assert values(run_context.database, "changing") == {"A": 2}
    producer.send(event("a"))
    assert run(changing).state == "complete"
    right(changing)


def test_the_fix_of_a_failing_map_is_used_without_a_full_run_once_accepted(
    run, run_context, producer, engine, changing, save, right
):
    save(key="event['context']['p']")
    engine.restart()
    producer.send({"type": "a", "timestamp": event()["timestamp"], "context": {"p": "x"}})
    run(changing)
    producer.send({"type": "a", "timestamp": event()["timestamp"], "context": {}})
    with pytest.raises(RunFailedError, match="KeyError"):
        run(changing)
    save(key="event['context'].get('p', 'none')")
    engine.restart()
    assert run(changing).state == "blocked"
    accept_change(run_context, changing)
    outcome = run(changing)
    assert (outcome.state, outcome.due) == ("complete", "")
    assert values(run_context.database, "changing") == {"x": 1, "none": 1}
    right(changing)


def test_a_run_whose_reduce_failed_midway_is_resumed_with_the_same_range(
    run, run_context, producer, right, monkeypatch
):
    from tests.support.aggregates import tasks

    definition = define("FragileReduce")
    producer.send(event("a"))
    run(definition)
    last = producer.send(event("a"), event("poison"), event("poison"))
    for _ in range(2):
        with pytest.raises(RunFailedError, match="poisoned") as caught:
            run(definition)
        assert caught.value.wrote
    planned = run_context.position_store.get("fragilereduce").open_range
    assert (planned.through, planned.attempt, planned.wrote) == (last, 3, True)
    producer.send(event("a"))
    monkeypatch.setattr(tasks, "POISON", set())
    run(definition)
    assert values(run_context.database, "fragilereduce") == {"a": 3, "poison": 2}
    right(definition)


def test_a_cancelled_run_that_may_have_written_requires_a_full_run(
    run, run_context, producer, engine, right, monkeypatch
):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())

    def cancel(point: str) -> None:
        if point == "submitted":
            planned = run_context.position_store.get("countbyday").open_range
            engine.cancelled.update(f"{job['job_id']}.1" for job in planned.jobs)

    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "hook", cancel)
        with pytest.raises(RunCancelledError):
            run(definition)
    outcome = run(definition)
    assert outcome.state == "blocked"
    assert "cancelled" in outcome.reason
    full_run(run_context, definition)
    assert run(definition).state == "nothing"
    right(definition)


def test_a_cancel_request_reaches_the_run(run, run_context, producer, right, monkeypatch):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    before = values(run_context.database, "countbyday")
    producer.send(event(project="new"))

    def cancel(point: str) -> None:
        if point == "recorded":
            open_build = run_context.position_store.get("countbyday").open_build
            assert run_context.position_store.request_cancel("countbyday", "build", open_build.uid)

    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "hook", cancel)
        patch.setattr("aggregates.run.context.CANCEL_CHECK_S", 0.0)
        with pytest.raises(RunCancelledError):
            full_run(run_context, definition)
    assert values(run_context.database, "countbyday") == before
    assert run_context.position_store.get("countbyday").open_build is None
    run(definition)
    right(definition)


def test_an_emptied_or_restored_store_is_reported_and_not_trusted(run, run_context, producer, database, right):
    definition = define("CountByDay")
    producer.send(event(), event())
    run(definition)
    database["ingest.store"].update_one({"_id": "event"}, {"$set": {"epoch": 2}})
    outcome = run(definition)
    assert outcome.state == "blocked"
    assert "restored or emptied" in outcome.reason
    full_run(run_context, definition)
    producer.send(event())
    assert run(definition).state == "complete"
    right(definition)


def test_a_position_beyond_the_store_is_not_trusted(run, run_context, producer, database):
    definition = define("CountByDay")
    producer.send(event(), event())
    run(definition)
    database["ingest.store"].update_one({"_id": "event"}, {"$set": {"next": 2}})
    assert "the store ends at 1" in run(definition).reason


def test_a_lost_definition_finds_its_position_again(run, run_context, producer, right):
    """Cover a Django database restored from before the aggregate was defined, or a definition created again."""
    producer.send(event())
    run(define("CountByDay"))
    producer.send(event())
    outcome = run(define("CountByDay"))
    assert (outcome.mode, outcome.start) == ("incremental", 1)
    right(define("CountByDay"))


def test_incremental_runs_continue_after_a_change_is_reverted(
    blocked, run, run_context, producer, engine, changing, save, right
):
    assert blocked.state == "blocked"
    save(key="event['type']")
    engine.restart()
    outcome = run(changing)
    assert (outcome.state, outcome.due) == ("complete", "")
    assert values(run_context.database, "changing") == {"a": 2}
    right(changing)
