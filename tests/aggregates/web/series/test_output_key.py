"""Keys: which texts are dates, and their moments."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.web.series.output_key import chart_x, parse_period, split_key

UTC_CASES = [
    ("2011", "2011-01-01T00:00:00", "year"),
    ("2011-07", "2011-07-01T00:00:00", "month"),
    ("2011-W27", "2011-07-04T00:00:00", "week"),
    ("2011-07-01", "2011-07-01T00:00:00", "day"),
    ("2011-07-01T13", "2011-07-01T13:00:00", "hour"),
    ("2011-07-01T13:00", "2011-07-01T13:00:00", "minute"),
    ("2011-07-01 13:05:09", "2011-07-01T13:05:09", "second"),
    ("2011-07-01T13:05:09.25", "2011-07-01T13:05:09.250000", "second"),
    ("2011-07-01T13:00Z", "2011-07-01T13:00:00", "minute"),
    ("2011-07-01T13:00+02:00", "2011-07-01T11:00:00", "minute"),
]


@pytest.mark.parametrize(("text", "moment", "step"), UTC_CASES)
def test_a_date_in_any_form_is_its_first_moment(text: str, moment: str, step: str) -> None:
    period = parse_period(text, "UTC")
    assert period is not None
    assert period.ms == datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000
    assert period.step == step


@pytest.mark.parametrize(
    "text", ["", "celery", "2011-13", "2011-02-30", "1234", "3000", "20110701", "2011-07-01T25:00", "2011-7-1", "٢٠١١"]
)
def test_other_texts_are_not_dates(text: str) -> None:
    assert parse_period(text, "UTC") is None


def test_dates_without_an_offset_are_local_times_in_summer_and_winter() -> None:
    winter, summer = parse_period("2011-01-01", "Europe/Berlin"), parse_period("2011-07-01", "Europe/Berlin")
    assert winter is not None and summer is not None
    assert datetime.fromtimestamp(winter.ms / 1000, UTC).hour == 23
    assert datetime.fromtimestamp(summer.ms / 1000, UTC).hour == 22


def test_x_is_the_date_of_the_last_part_or_the_key() -> None:
    assert chart_x("date/2011-07-02", "America/New_York") == 1309579200000.0
    assert chart_x("celery/py", "UTC") == "celery/py"
    assert chart_x(17, "UTC") == 17
    assert chart_x(datetime(2011, 7, 2, tzinfo=UTC), "America/New_York") == 1309564800000.0
    assert chart_x({"a": 1}, "UTC") == "{'a': 1}"


def test_the_dimensions_are_all_parts_but_the_last() -> None:
    assert split_key("a/b/2011-07-01") == ("a/b", "2011-07-01")
    assert split_key("2011-07-01") == ("", "2011-07-01")


@given(st.text(max_size=40))
def test_any_text_can_be_parsed(text: str) -> None:
    period = parse_period(text, "Europe/Berlin")
    assert period is None or isinstance(period.ms, float)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2199, 1, 1)))  # noqa: DTZ001
def test_iso_8601_of_any_moment_is_that_moment(moment: datetime) -> None:
    period = parse_period(moment.isoformat(), "UTC")
    assert period is not None
    assert abs(period.ms - moment.replace(tzinfo=UTC).timestamp() * 1000) < 0.01
