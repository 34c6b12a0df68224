"""Sketches keep their stated error, and a merged sketch equals one of all values."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys

import bson
from hypothesis import given
from hypothesis import strategies as st

from ingest.metrics.sketch import KEPT_HASHES, MOST_BUCKETS, DistinctSketch, LogSketch

values = st.lists(st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1, 2, -3, 1e-9]), min_size=1, max_size=200)


def of(numbers: list[float]) -> LogSketch:
    sketch = LogSketch()
    sketch.add_all(numbers)
    return sketch


@given(values, st.sampled_from([0.0, 0.25, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent_of_the_value_of_that_rank(numbers: list[float], share: float) -> None:
    exact = sorted(numbers)[math.floor(share * (len(numbers) - 1))]
    (found,) = of(numbers).quantiles([share])
    assert abs(found - exact) <= 0.0100001 * abs(exact)


@given(values, values)
def test_merging_equals_one_sketch_of_everything(one: list[float], other: list[float]) -> None:
    merged = of(one)
    merged.merge(of(other))
    assert merged.to_document() == of(one + other).to_document()
    assert merged.count == len(one) + len(other)


@given(values)
def test_a_sketch_is_the_same_after_json_and_bson(numbers: list[float]) -> None:
    document = of(numbers).to_document()
    assert json.loads(json.dumps(document)) == document == bson.decode(bson.encode(document))
    assert LogSketch.from_document(document).to_document() == document


def test_buckets_are_bounded_and_the_large_values_stay_exact() -> None:
    sketch = of([1.02**n for n in range(-20_000, 20_000)])
    assert len(sketch.positive) == MOST_BUCKETS
    assert sketch.count == 40_000
    assert abs(sketch.quantiles([0.99])[0] / 1.02**19_599 - 1) < 0.0101


def test_extreme_numbers_are_accepted() -> None:
    assert of([sys.float_info.max, 5e-324, -sys.float_info.max, 0]).count == 4
    assert len(of([sys.float_info.max]).quantiles([0.5])) == 1


def test_distinct_counts_are_exact_at_first_and_later_within_ten_percent() -> None:
    sketch = DistinctSketch()
    sketch.add_all(range(1_000))
    sketch.add_all(range(1_000))
    assert sketch.estimate == 1_000
    other = DistinctSketch()
    other.add_all(range(500, 60_000))
    sketch.merge(other)
    assert abs(sketch.estimate / 60_000 - 1) < 0.10
    assert len(sketch.hashes) == KEPT_HASHES
    assert DistinctSketch.from_document(bson.decode(bson.encode(sketch.to_document()))).hashes == sketch.hashes


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from ingest.metrics.sketch import hash_of; print(hash_of('a'))"
    seeds = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(seed)}, capture_output=True, check=True, text=True
        ).stdout
        for seed in (1, 2)
    ]
    assert seeds[0] == seeds[1]


def test_the_order_of_values_changes_nothing() -> None:
    numbers = [random.expovariate(1) for _ in range(1_000)]
    shuffled = random.sample(numbers, len(numbers))
    assert of(numbers).to_document() == of(shuffled).to_document()
