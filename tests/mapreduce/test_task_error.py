"""Any error of task code is reported with its traceback and document, and ends no process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from pymongo.database import Database

from mapreduce.exceptions import CallFailedError, MapFailedError, MapReduceError, ReduceFailedError, ResultTooBigError
from mapreduce.job.basic_job import RESULT_BYTES, checked_call, run_call
from mapreduce.job.function_registry import Registry
from mapreduce.job.spec import Source
from mapreduce.step.map import MapCounts, MapJob, run_map, shown_ids
from mapreduce.step.reader import WHOLE_READS, InputRefusedError, KeyRange, batches
from mapreduce.step.reduce import ReduceJob, reduce_runs
from mapreduce.step.spill import RunWriter
from mapreduce.task_error import Aborted, described, is_of_task
from tests.support.mapreduce.cluster import Cluster

T = "tests.support.mapreduce.tasks:"


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Hung(BaseException):
    """An error outside `Exception`, like `gevent.Timeout` or `asyncio.CancelledError`."""


RAISED = [ValueError("b\ud800oom"), SystemExit(0), KeyboardInterrupt(), MuteError(), Hung("late"), MemoryError()]


@pytest.fixture
def no_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, as executors do."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def mapped(raised: BaseException, tmp_path: Any, *, skip: bool) -> MapCounts:
    def on_seven(documents: Iterator[dict[str, Any]]) -> Iterator[tuple[str, int]]:
        for document in documents:
            if document["_id"] == 7:
                raise raised
            yield "k", 1

    job = MapJob(on_seven, None, labelled=False, partitions=1, spill_bytes=2**20)
    documents = [{"_id": number} for number in range(10)]
    return run_map(job, lambda: [documents], lambda: RunWriter(tmp_path / "run"), skip=skip)[1]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.usefixtures("no_interrupts")
def test_a_map_may_raise_anything(raised: BaseException, tmp_path: Any) -> None:
    with pytest.raises(MapFailedError) as caught:
        mapped(raised, tmp_path, skip=False)
    assert caught.value.details["document_id"] == 7
    sent = bson.decode(bson.encode(caught.value.to_document()))
    assert type(raised).__name__ in sent["message"]
    assert "in on_seven" in sent["details"]["traceback"]
    assert mapped(raised, tmp_path, skip=True).skipped_ids == [7]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.usefixtures("no_interrupts")
def test_a_reduce_may_raise_anything(raised: BaseException, tmp_path: Any) -> None:
    def fail(key: Any, values: Any) -> Any:
        raise raised

    writer = RunWriter(tmp_path / "run")
    writer.write("", 0, ["k"], [1])
    output = writer.finish()
    from mapreduce.step.reduce import SortedRun

    runs = [SortedRun.of(output, segment) for segment in output.segments]
    with pytest.raises(ReduceFailedError) as caught:
        list(reduce_runs(ReduceJob(fail, True, 2**20, lambda: tmp_path / "merge"), runs))
    assert bson.encode(caught.value.to_document())
    assert caught.value.details["key"] == "k"


def test_an_abort_and_ctrl_c_are_not_taken_for_errors_of_task_code(tmp_path: Any, interruptible: None) -> None:
    assert not is_of_task(Aborted())
    assert not is_of_task(KeyboardInterrupt()), "a person pressed Ctrl-C"
    with pytest.raises(Aborted):
        mapped(Aborted(), tmp_path, skip=True)
    assert described(ValueError("x")) == "ValueError: x"


def test_an_error_is_bounded_and_can_always_be_sent() -> None:
    nested: Any = 1
    for _ in range(300):
        nested = {"a": nested}
    details = {
        "key": "k" * 10**7,
        "deep": nested,
        "what": object(),
        "big": {"a": "x" * 10**7},
        "splits": [1, 2],
        "n": "\ud800",
    }
    sent = bson.encode(MapReduceError("m" * 10**7 + "\ud800", details).to_document())
    assert len(sent) < 2**20
    assert bson.decode(sent)["details"]["splits"] == [1, 2]


def test_ids_of_skipped_documents_are_bounded_in_count_and_bytes() -> None:
    assert len(shown_ids(list(range(5_000)))) == 1_000
    assert 0 < len(bson.encode({"ids": shown_ids(["x" * 10_000] * 1_000)})) < 300_000


def test_a_result_that_no_record_can_hold_is_an_error() -> None:
    registry = Registry(["tests.support.mapreduce.tasks"])
    for args in ([RESULT_BYTES, 0], [1, 150]):
        with pytest.raises(ResultTooBigError, match="returned"):
            run_call(checked_call(T + "big", args, {}, "j"), registry)
    with pytest.raises(CallFailedError, match="SystemExit"):
        run_call(checked_call(T + "leave", [], {}, "j"), registry)


def test_a_read_has_a_time_limit_on_the_server(database: Database[dict[str, Any]]) -> None:
    database["slow"].insert_many([{"_id": number} for number in range(20)])
    source = Source(("slow",), query={"$where": "sleep(50) || true"})
    for hinted, limit_s in ((True, 0.1), (False, 0.1 / WHOLE_READS)):
        with pytest.raises(InputRefusedError, match="split_limit_s"):
            list(batches(database, source, KeyRange(0, "slow", 0, 100, hinted=hinted), limit_s))


def test_executors_survive_any_error_of_their_tasks(
    shared_cluster: Cluster, database: Database[dict[str, Any]], run_spec: Callable[..., Any]
) -> None:
    for name in ("leave_on_seven", "surrogate_on_seven"):
        status = run_spec(shared_cluster, name)
        assert (status.state, status.error["code"]) == ("error", "map_failed"), status
        assert status.error["details"]["document_id"] == 7
        assert f"in {name}" in status.traceback
        assert status.progress["attempts_lost"] == 0


@pytest.fixture
def run_spec(database: Database[dict[str, Any]]) -> Callable[..., Any]:
    from mapreduce.job.spec import JobSpec, Output

    database["event.1"].insert_many([{"_id": number, "type": "a"} for number in range(1, 11)])

    def run(cluster: Cluster, name: str) -> Any:
        sources = (Source(("event.1",), T + name),)
        spec = JobSpec(database.name, sources, {"": Output("zagg.x", "merge")}, T + "add")
        return cluster.engine.wait(cluster.engine.submit(spec), 200)

    return run
