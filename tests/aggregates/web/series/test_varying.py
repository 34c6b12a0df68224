"""Charts of periods whose lengths vary: filling adds only periods that the data has."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from aggregates.keys.key_time import KeyTime, tell
from aggregates.task import Task
from aggregates.web.series.fill import FILLS, fill_in
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension
from aggregates.web.series.time_span import OPEN, TimeSpan
from tests.support.aggregates.varying_periods import VARYING

NOW = datetime(2026, 11, 29, 21, tzinfo=UTC)


def key_time(kind: str) -> KeyTime:
    pairs = {f"{one:%Y-%m-%d}": (one, two) for one, two in pairwise(VARYING[kind])}

    class Read(Task):
        def period(self, key: str) -> Any:
            return pairs[key]

    return tell(Read(), pairs)


def keys_of(kind: str) -> list[str]:
    return [f"{one:%Y-%m-%d}" for one in VARYING[kind][:-1]]


def filled(keys: list[str], told: KeyTime, fill: Any, span: TimeSpan = OPEN) -> ChartData:
    documents = [{"_id": key, "value": number} for number, key in enumerate(keys, start=1)]
    chart = by_dimension(documents, span=KeySpan(span, span, told), shown_zone="UTC", now=NOW)
    fill_in(chart, fill, NOW)
    return chart


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", VARYING)
def test_filling_adds_no_period_that_no_key_names(kind: str, fill: Any) -> None:
    told, keys = key_time(kind), keys_of(kind)
    for some in (keys, keys[:1], keys[:2], keys[3:6], sorted(random.Random(kind).sample(keys, len(keys) // 2))):
        found = filled(some, told, fill)
        assert [y for _, y in found.series[0].data] == [*range(1, len(some) + 1)]
        assert found.outliers == 0
        assert found.facts()["step_varies"] is True


@pytest.mark.parametrize("kind", VARYING)
def test_the_step_of_varying_periods_is_a_typical_one(kind: str) -> None:
    expected = {"half months": "P15D", "4-4-5 months": "P28D", "moon months": "P30D", "retail years": "P364D"}
    found = filled(keys_of(kind), key_time(kind), "").step
    assert found == expected.get(kind, found)
    assert found not in ("day", "second")


def test_a_range_ends_with_the_last_period_that_is_known() -> None:
    span = TimeSpan(datetime(2024, 1, 1, tzinfo=UTC), NOW)
    keys = keys_of("half months")
    assert len(filled(keys, key_time("half months"), "zero", span).series[0].data) == sum(key >= "2024" for key in keys)


def test_a_period_of_one_series_is_known_to_the_others() -> None:
    keys = keys_of("half months")[:4]
    documents = [{"_id": f"a/{key}", "value": 1} for key in keys] + [{"_id": f"b/{keys[1]}", "value": 5}]
    for fill, expected in (("zero", [0, 5, 0, 0]), ("gap", [None, 5, None, None]), ("previous", [None, 5, 5, 5])):
        chart = by_dimension(documents, span=KeySpan(OPEN, OPEN, key_time("half months")), shown_zone="UTC")
        fill_in(chart, fill, NOW)  # type: ignore[arg-type]
        assert [y for _, y in chart.series[1].data] == expected


def test_a_wrong_clock_is_left_out_of_varying_periods_too() -> None:
    keys = ["1970-01-01", *keys_of("half months")]
    found = filled(keys, key_time("half months"), "zero")
    assert (len(found.series[0].data), found.outliers) == (len(keys) - 1, 1)


def test_days_and_months_beside_varying_periods_keep_their_grid() -> None:
    half = key_time("half months")
    told = KeyTime("UTC", half.step, 100, ("day", "month"))
    assert len(filled(["2026-01-01", "2026-01-02", "2026-01-09"], told, "zero").series[0].data) == 9
    assert len(filled(["2026-01", "2026-02", "2026-05"], told, "zero").series[0].data) == 5
    assert len(filled(["2026-01-01", "2026-01-16", "2026-03-01"], told, "zero").series[0].data) == 3
    assert "step_varies" not in filled(["2026-01-01", "2026-01-02"], told, "zero").facts()


def test_keys_that_name_months_or_weeks_have_their_grid_whatever_their_periods() -> None:
    told = key_time("4-4-5 months")
    for keys in (["2026-01", "2026-02", "2026-05"], ["2026-W01", "2026-W02", "2026-W05"]):
        found = filled(keys, told, "zero")
        assert len(found.series[0].data) == 5
        assert "step_varies" not in found.facts()


def test_one_longer_period_that_no_task_was_asked_for_yet_does_not_make_the_grid_one_of_weeks() -> None:
    keys = keys_of("quarters that begin on a Monday")
    found = filled(keys, KeyTime("UTC", 91 * 86_400, 20), "zero")
    assert (found.step, len(found.series[0].data)) == ("P91D", len(keys))


def test_a_shorter_period_that_no_task_was_asked_for_yet_does_not_make_the_grid_one_of_days() -> None:
    keys = keys_of("half months")
    for step in ("varies/1296000/1296000", 15 * 86_400, 16 * 86_400):
        found = filled(keys, KeyTime("UTC", step, 20), "zero")
        assert len(found.series[0].data) == len(keys)


@pytest.mark.parametrize("kind", ["billing periods", "moon months", "months that begin on their last day"])
def test_what_looked_like_months_in_two_keys_is_not_filled_by_days(kind: str) -> None:
    found = filled(keys_of(kind), KeyTime("UTC", "month", 2), "zero")
    assert len(found.series[0].data) == len(keys_of(kind))
    assert (
        len(filled(["2026-01-01", "2026-02-01", "2026-05-01"], KeyTime("UTC", "month", 2), "zero").series[0].data) == 5
    )
    assert filled(["2026-01-01", "2026-01-02", "2026-01-05"], KeyTime("UTC", "month", 2), "zero").step == "day"
