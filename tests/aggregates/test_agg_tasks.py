"""The tasks that Zarkov brings take any event that a receiver lets in."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates import agg_tasks
from aggregates.event_field import number_at, text_at, value_at
from aggregates.metric import MinuteTask
from aggregates.task import Task

NOON = datetime(2011, 7, 1, 12, tzinfo=UTC)
TASKS = [task for task in vars(agg_tasks).values() if isinstance(task, type) and task.__module__ == agg_tasks.__name__]
GOOD = {
    "type": "commit",
    "timestamp": NOON,
    "context": {"project": "p", "name": "n", "source": "s", "level": "info", "kind": "Timer"},
    "extra": {
        "insertions": 3,
        "deletions": 1,
        "kind": "code",
        "count": 2,
        "sum": 5,
        "min": 2,
        "max": 3,
        "last": 3,
        "publisher": "q",
        "sequence": 1,
        "before": 0,
        "sketch": {},
    },
}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def changed(context: dict[str, Any], extra: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {**GOOD, "context": {**GOOD["context"], **context}, "extra": {**GOOD["extra"], **extra}, **rest}  # type: ignore[dict-item]


def run(task: type[Task], *events: dict[str, Any]) -> dict[Any, Any]:
    """Map and reduce events, the reduce taking its own results, and finalize."""
    this: Any = task()
    found: dict[Any, Any] = {}
    for key, value in this.map(iter(events)):
        found[key] = this.reduce(key, [found[key], value]) if key in found else this.reduce(key, [value])
    final = getattr(this, "finalize", None)
    return {key: final(key, value) if final else value for key, value in found.items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "event",
    [
        {"timestamp": NOON},
        {"timestamp": NOON, "context": {}},
        {"timestamp": NOON, "type": {"a": 1}, "context": [], "extra": "text"},
        {"timestamp": NOON, "type": "", "context": None, "extra": None},
        {**GOOD, "context": "p"},
        {**GOOD, "extra": {}},
        changed({"project": {"$x": 1}, "name": 5, "tags": ["a"]}, {"insertions": "3", "count": None, "kind": 1}),
        changed({"tags": {"a": 1}}, {"rate": 0, "sketch": "x", "sequence": "1"}),
        changed({"source": None}, {"count": 0, "rate": math.nan, "sketch": {"positive": [1]}, "deletions": math.inf}),
    ],
)
def test_an_event_that_is_not_as_expected_stops_no_task(task: type[Task], event: dict[str, Any]) -> None:
    right = run(task, GOOD, GOOD)
    beside = run(task, GOOD, event, GOOD)
    assert {key: beside[key] for key in right} == right or event.get("type") == "commit"
    assert (right and set(beside) - set(right) <= {"(none)", "(none)/2011-07-01T12:00"}) or issubclass(task, MinuteTask)


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=60, deadline=None)
@given(
    context=st.dictionaries(st.sampled_from(sorted([*GOOD["context"], "tags", "outcome"])), VALUES),  # type: ignore[misc]
    extra=st.dictionaries(st.sampled_from(sorted([*GOOD["extra"], "rate"])), VALUES),  # type: ignore[misc]
    kind=VALUES,
)
def test_no_values_stop_a_task(task: type[Task], context: dict[str, Any], extra: dict[str, Any], kind: Any) -> None:
    event = changed(context, extra, type=kind)
    run(task, event, GOOD, event)


def test_sums_beyond_64_bits_continue_as_floats() -> None:
    huge = changed({}, {"insertions": 2**63 - 1, "deletions": 1})
    found = run(agg_tasks.LinesChangedByDay, huge, huge)
    assert found == {"p/2011-07-01": {"insertions": 2.0**64, "deletions": 2}}


def test_fields_are_read_or_none() -> None:
    event = {"a": {"b": "text", "n": 1, "t": True, "nan": math.nan}, "x" * 3: "y" * 257}
    assert (value_at(event, "a", "b"), value_at(event, "a", "b", "c"), value_at(event)) == ("text", None, event)
    assert (text_at(event, "a", "b"), text_at(event, "a", "n"), text_at(event, "xxx")) == ("text", None, None)
    assert [number_at(event, "a", name) for name in ("n", "t", "nan", "b", "none")] == [1, None, None, None, None]
