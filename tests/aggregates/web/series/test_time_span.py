"""Time spans: absolute and relative ranges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aggregates.time_reader import read_time
from aggregates.web.exceptions import BadRequestError
from aggregates.web.series.output_key import parse_period
from aggregates.web.series.time_span import TimeSpan, asked_span, read_span, read_zone

NOW = datetime(2024, 3, 31, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2024-03-31T15:30"),
        ("today", "2024-03-31T00:00"),
        ("-90s", "2024-03-31T15:28:30"),
        ("-30min", "2024-03-31T15:00"),
        ("-12h", "2024-03-31T03:30"),
        ("-7d", "2024-03-24T15:30"),
        ("-4w", "2024-03-03T15:30"),
        ("-1mo", "2024-02-29T15:30"),
        ("-1y", "2023-03-31T15:30"),
        ("2011-07", "2011-07-01T00:00"),
        ("2011-07-01T13:00", "2011-07-01T13:00"),
        ("1309579200000", "2011-07-02T04:00"),
    ],
)
def test_absolute_and_relative_moments_are_parsed(text: str, moment: str) -> None:
    assert read_span(text, "", "UTC", NOW).start == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_absolute_dates_are_local_to_the_zone() -> None:
    span = read_span("2011-07-01", "", "Europe/Berlin", NOW)
    assert span.start == datetime(2011, 6, 30, 22, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "-7", "-7x", "7d", "--7d", "2011-13-01", "-99999999d", "'", "\0"])
def test_other_texts_are_refused_with_parameter_value_and_remedy(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"to = .* is not a point in time: use a date") as caught:
        read_span("", text, "UTC", NOW)
    assert caught.value.details == {"parameter": "to"}


@pytest.mark.parametrize("text", ["-999999y", "-999999w", "-999999mo", "-999999d"])
def test_huge_ranges_start_at_the_earliest_moment(text: str) -> None:
    start = read_span(text, "", "UTC", NOW).start
    assert start is not None and start.year < 1300


@pytest.mark.parametrize(
    "text", ["2011", "2011-07", "2011-W27", "2011-07-01", "2011-07-01T13", "2011-07-01T13:05", "now"]
)
def test_the_same_text_at_both_ends_is_the_whole_of_what_it_names(text: str) -> None:
    span, whole = read_span(text, text, "Europe/Berlin", NOW), read_time(text, "Europe/Berlin", NOW)
    assert (span.start, span.end) == (whole.first, whole.last)


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(881, 1, 1, microsecond=87_000, tzinfo=UTC))
def test_a_span_contains_the_instants_that_are_its_ends(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    period = parse_period(text, "UTC")
    assert period is not None
    assert read_span(text, text, "UTC", NOW).contains(period.ms)


def test_today_is_the_whole_day_and_now_an_instant() -> None:
    midnight = datetime(2024, 3, 31, tzinfo=UTC)
    assert read_span("today", "today", "UTC", NOW) == TimeSpan(midnight, midnight + timedelta(days=1, microseconds=-1))
    assert read_span("-7d", "now", "UTC", NOW) == TimeSpan(NOW - timedelta(days=7), NOW)


@pytest.mark.parametrize(
    ("start", "end"),
    [("2011-08", "2011-07"), ("2011-07-02", "2011-07-01"), ("now", "2024-03-30"), ("now", "-1s"), ("2099", "now")],
)
def test_a_span_that_ends_before_it_starts_is_refused_with_both_ends(start: str, end: str) -> None:
    with pytest.raises(BadRequestError, match=f"from = '{start}' is after to = '{end}': swap them") as caught:
        read_span(start, end, "UTC", NOW)
    assert caught.value.details == {"parameter": "from"}


def test_a_span_of_a_request_has_its_zone_or_the_configured_one() -> None:
    given = {"from": "2011-07-01", "to": "2011-07-01 02:00"}
    assert asked_span(given, "Europe/Berlin", NOW) == read_span(*given.values(), "Europe/Berlin", NOW)
    assert asked_span({**given, "tz": "Asia/Kolkata"}, "UTC", NOW) == read_span(*given.values(), "Asia/Kolkata", NOW)
    assert asked_span({}, "UTC", NOW) == TimeSpan(None, None)


def test_a_span_of_stored_dates_begins_with_no_earlier_millisecond() -> None:
    given = {"from": "2012-02-29T24:00", "to": "2012-03-01T00:00:00.0005"}
    span = asked_span(given, "UTC", NOW)
    assert span.start == datetime(2012, 3, 1, tzinfo=UTC)
    assert span.end == datetime(2012, 3, 1, microsecond=599, tzinfo=UTC)
    assert asked_span({"from": "9999-12-31T24:00"}, "UTC", NOW).start == datetime.max.replace(tzinfo=UTC)


def test_a_span_includes_both_ends_and_can_be_open() -> None:
    span = TimeSpan(datetime(2011, 1, 1, tzinfo=UTC), datetime(2011, 1, 2, tzinfo=UTC))
    inside = [1293840000000.0, 1293926400000.0]
    assert [span.contains(ms) for ms in (inside[0] - 1, *inside, inside[1] + 1)] == [False, True, True, False]
    assert TimeSpan(None, None).contains(-1e15)


def test_zones_are_names_of_the_time_zone_database() -> None:
    assert read_zone("", "UTC") == "UTC"
    assert read_zone("Etc/GMT 5", "UTC") == read_zone("Etc/GMT+5", "UTC") == "Etc/GMT+5"
    assert read_zone("Europe/Berlin", "UTC") == "Europe/Berlin"
    with pytest.raises(BadRequestError, match=r"tz = 'localtime' is not a time zone: use a name .*Berlin"):
        read_zone("localtime", "UTC")
    with pytest.raises(BadRequestError, match="tz = 'Mars'"):
        read_zone("Mars", "UTC")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_two_texts_are_a_span_or_refused(start: str, end: str) -> None:
    try:
        span = read_span(start, end, "America/New_York", NOW)
    except BadRequestError:
        return
    span.contains(0.0)
