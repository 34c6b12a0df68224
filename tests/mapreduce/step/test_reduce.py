from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce.exceptions import OutputGoneError, ReduceFailedError
from mapreduce.step import reduce
from mapreduce.step.map import Collector, MapJob
from mapreduce.step.reduce import ReduceJob, SortedRun, reduce_runs
from mapreduce.step.spill import MapOutput, RunWriter
from tests.support.mapreduce.tasks import add, gather

big = st.sampled_from([2**31, -(2**31) - 1, 2**40, 2**63 - 1, -(2**63)])  # BSON gives them back as Int64
keys = (
    st.text("abc", max_size=2)
    | st.integers(-3, 3)
    | big
    | st.booleans()
    | st.none()
    | st.dictionaries(st.just("a"), big | st.lists(big, max_size=1))
)


def map_output(tmp_path: Path, pairs: list[Any], **changes: Any) -> MapOutput:
    """Return the output of one split; with a low `spill_bytes` it has many runs."""
    values: dict[str, Any] = {
        "map": lambda events: events,
        "combine": None,
        "labelled": False,
        "partitions": 1,
        "spill_bytes": 2**20,
    }
    job = MapJob(**{**values, **changes})
    writer = RunWriter(tmp_path / f"{next(numbers)}.bson", compress=changes.get("compress", 0))
    collector = Collector(job, writer)
    collector.take(pairs)
    collector.finish()
    return writer.finish()


numbers = itertools.count()


def runs_of(output: MapOutput, partition: int = 0) -> list[SortedRun]:
    return [SortedRun.of(output, s) for s in output.segments if s.partition == partition]


def job(tmp_path: Path, reduce: Any = add, **changes: Any) -> ReduceJob:
    values: dict[str, Any] = {
        "reduce": reduce,
        "associative": True,
        "memory_bytes": 2**20,
        "scratch": lambda: tmp_path / f"scratch{next(numbers)}",
    }
    return ReduceJob(**{**values, **changes})


@given(pairs=st.lists(st.tuples(keys, st.integers(-9, 9)), max_size=60), fan_in=st.integers(2, 5))
def test_merging_from_runs_equals_grouping_in_memory(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[Any], fan_in: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("runs")
    outputs = [map_output(tmp_path, pairs[at : at + 7]) for at in range(0, len(pairs), 7)]
    runs = [run for output in outputs for run in runs_of(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduce, "FAN_IN", fan_in)
        patch.setattr(reduce, "FOLD_COUNT", 3)
        streamed = sorted(reduce_runs(job(tmp_path, memory_bytes=0), runs), key=repr)
    assert streamed == sorted(reduce_runs(job(tmp_path), runs), key=repr)
    assert not list(tmp_path.glob("scratch*"))


@pytest.mark.parametrize("memory_bytes", [0, 2**20])
def test_a_reduce_sees_the_key_that_the_map_yielded(tmp_path: Path, memory_bytes: int) -> None:
    seen = []

    def noting(key: Any, values: list[int]) -> int:
        seen.append(key)
        return sum(values)

    given_keys = [2**40, {"a": -(2**40)}]
    runs = [run for n in range(2) for run in runs_of(map_output(tmp_path, [(key, n) for key in given_keys]))]
    found = list(reduce_runs(job(tmp_path, noting, memory_bytes=memory_bytes), runs))
    assert sorted(found, key=repr) == [(2**40, 1), ({"a": -(2**40)}, 1)]
    assert {type(key if isinstance(key, int) else key["a"]) for key in seen} == {int}


def test_a_map_that_yields_more_than_memory_holds_writes_sorted_runs(tmp_path: Path) -> None:
    pairs = [(f"k{n % 5_000}", n) for n in range(40_000)]
    output = map_output(tmp_path, pairs, spill_bytes=500_000)
    assert len(output.segments) > 5
    assert output.path is not None
    for run in runs_of(output):
        found = [key for batch in run.batches() for key in batch["k"]]
        assert found == sorted(found)
    expected: dict[str, list[int]] = defaultdict(list)
    for key, value in pairs:
        expected[key].append(value)
    merged = dict(reduce_runs(job(tmp_path, gather, associative=False, memory_bytes=0), runs_of(output)))
    assert merged == expected


def test_combining_early_keeps_an_associative_map_small(tmp_path: Path) -> None:
    pairs = [("k", 1)] * 200_000
    output = map_output(tmp_path, pairs, combine=add, spill_bytes=500_000)
    assert len(output.segments) == 1
    assert output.path is None
    assert dict(reduce_runs(job(tmp_path), runs_of(output))) == {"k": 200_000}


def test_keys_are_divided_among_the_partitions(tmp_path: Path) -> None:
    output = map_output(tmp_path, [(f"k{n}", 1) for n in range(1_000)], partitions=8)
    found = [dict(reduce_runs(job(tmp_path), runs_of(output, part))) for part in range(8)]
    assert sum(map(len, found)) == 1_000
    assert min(map(len, found)) > 60


def test_compressed_runs_have_the_same_content(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "x.bson", compress=6, inline_bytes=0)
    names = [f"key{n:06d}" for n in range(10_000)]
    writer.write("", 0, names, [1] * len(names))
    output = writer.finish()
    assert writer.written < 100_000
    assert Counter(dict(reduce_runs(job(tmp_path, memory_bytes=0), runs_of(output)))) == Counter(names)


def test_a_reduce_that_is_not_associative_gets_its_values_as_a_stream(tmp_path: Path) -> None:
    def first_only(key: Any, values: Any) -> Any:
        assert iter(values) is values
        return next(values)

    runs = runs_of(map_output(tmp_path, [("a", 1), ("a", 2), ("b", 3)]))
    for memory in (0, 2**20):
        found = dict(reduce_runs(job(tmp_path, first_only, associative=False, memory_bytes=memory), runs))
        assert found == {"a": 1, "b": 3}


def test_a_single_value_is_reduced_too(tmp_path: Path) -> None:
    runs = runs_of(map_output(tmp_path, [("a", 3)]))
    assert dict(reduce_runs(job(tmp_path, lambda key, values: list(values)), runs)) == {"a": [3]}


def test_a_failing_reduce_is_named_with_its_key(tmp_path: Path) -> None:
    def fail(key: Any, values: Any) -> Any:
        raise ZeroDivisionError("x")

    runs = runs_of(map_output(tmp_path, [("a", 3)]))
    with pytest.raises(ReduceFailedError, match=r"'a'.*ZeroDivisionError"):
        list(reduce_runs(job(tmp_path, fail), runs))


def test_a_truncated_file_counts_as_lost(tmp_path: Path) -> None:
    output = map_output(tmp_path, [(f"k{n}", "x" * 200) for n in range(2_000)])
    assert output.path is not None
    output.path.write_bytes(output.path.read_bytes()[:-10])
    with pytest.raises(OutputGoneError):
        list(reduce_runs(job(tmp_path, gather), runs_of(output)))


def test_big_values_make_small_batches(tmp_path: Path) -> None:
    values = ["x" * 200_000] * 40
    output = map_output(tmp_path, [(f"k{n:02d}", value) for n, value in enumerate(values)])
    sizes = [len(batch["k"]) for run in runs_of(output) for batch in run.batches()]
    assert sum(sizes) == 40
    assert max(sizes) <= 2
