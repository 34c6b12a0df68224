"""Periods of keys: from timestamps to keys and from keys to spans, over daylight changes and to the ends of time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz
from hypothesis import given
from hypothesis import strategies as st

from aggregates import period
from aggregates.clock import MAX_INSTANT, MIN_INSTANT
from tests.support.aggregates.zones import OfPytz, of_file

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"]
PAIRS: list[tuple[Callable[..., str], Callable[..., period.Span]]] = [
    (period.minute_key, period.minute),
    (period.hour_key, period.hour),
    (period.day_key, period.day),
    (period.week_key, period.week),
    (period.month_key, period.month),
    (period.year_key, period.year),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("read", "text", "zone", "start", "end"),
    [
        (period.hour, "2011-07-01T13:00", "UTC", "2011-07-01T13:00Z", "2011-07-01T14:00Z"),
        (period.hour, "2011-10-30T01:00", "Europe/Berlin", "2011-10-29T23:00Z", "2011-10-30T00:00Z"),
        (period.hour, "2011-10-30T02:00", "Europe/Berlin", "2011-10-30T00:00Z", "2011-10-30T02:00Z"),
        (period.hour, "2011-10-30T03:00", "Europe/Berlin", "2011-10-30T02:00Z", "2011-10-30T03:00Z"),
        (period.hour, "2011-03-27T01:00", "Europe/Berlin", "2011-03-27T00:00Z", "2011-03-27T01:00Z"),
        (period.hour, "2011-03-27T02:00", "Europe/Berlin", "2011-03-27T01:00Z", "2011-03-27T01:00Z"),
        (period.hour, "2011-04-03T01:00", "Australia/Lord_Howe", "2011-04-02T14:00Z", "2011-04-02T15:30Z"),
        (period.hour, "2011-10-02T02:00", "Australia/Lord_Howe", "2011-10-01T15:30Z", "2011-10-01T16:00Z"),
        (period.minute, "2011-10-30T02:30", "Europe/Berlin", "2011-10-30T00:30Z", "2011-10-30T01:31Z"),
        (period.day, "2011-03-27", "Europe/Berlin", "2011-03-26T23:00Z", "2011-03-27T22:00Z"),
        (period.day, "2011-10-30", "Europe/Berlin", "2011-10-29T22:00Z", "2011-10-30T23:00Z"),
        (period.day, "2017-10-15", "America/Sao_Paulo", "2017-10-15T03:00Z", "2017-10-16T02:00Z"),
        (period.day, "2018-02-17", "America/Sao_Paulo", "2018-02-17T02:00Z", "2018-02-18T03:00Z"),
        (period.day, "2011-12-30", "Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z"),
        (period.week, "2011-10-24", "Europe/Berlin", "2011-10-23T22:00Z", "2011-10-30T23:00Z"),
        (period.week, "2011-W43", "Europe/Berlin", "2011-10-23T22:00Z", "2011-10-30T23:00Z"),
        (period.month, "2011-10", "Europe/Berlin", "2011-09-30T22:00Z", "2011-10-31T23:00Z"),
        (period.year, "2011", "Europe/Berlin", "2010-12-31T23:00Z", "2011-12-31T23:00Z"),
    ],
)
def test_a_span_holds_every_instant_of_its_key(
    read: Callable[..., period.Span], text: str, zone: str, start: str, end: str
) -> None:
    assert read(text, zone) == read(text, ZoneInfo(zone)) == (at(start), at(end))


@pytest.mark.parametrize("text", ["2011-07-01T13", "2011-07-01T13:00", "2011-07-01T13:00:00", "2011-07-01 13:00"])
def test_an_hour_may_be_spelled_in_any_precision(text: str) -> None:
    assert period.hour(text, "Europe/Berlin") == (at("2011-07-01T11:00Z"), at("2011-07-01T12:00Z"))


@pytest.mark.parametrize("text", ["2011-10-30T02:00+01:00", "2011-10-30T01:00Z", "2011-10-30T01:00:00+00:00"])
def test_an_offset_says_which_of_two_hours(text: str) -> None:
    assert period.hour(text, "Europe/Berlin") == (at("2011-10-30T01:00Z"), at("2011-10-30T02:00Z"))


def test_several_minutes_or_hours_can_be_one_period() -> None:
    moment = at("2011-07-01T13:14:59Z")
    assert period.minute_key(moment, count=5) == "2011-07-01T13:10"
    assert period.minute("2011-07-01T13:10", count=5) == (at("2011-07-01T13:10Z"), at("2011-07-01T13:15Z"))
    assert period.hour_key(moment, "Europe/Berlin", count=6) == "2011-07-01T12:00"
    assert period.hour("2011-10-30T00:00", "Europe/Berlin", count=6) == (
        at("2011-10-29T22:00Z"),
        at("2011-10-30T05:00Z"),
    )
    with pytest.raises(ValueError, match="7 minutes do not divide a day"):
        period.minute_key(moment, count=7)
    with pytest.raises(ValueError, match="count = 0"):
        period.hour("2011-07-01T13:00", count=0)


@pytest.mark.parametrize("text", ["", "x", "1-01-01", "2011-07-01", "2011-07-01T13:05:07", "0000-01-01T00:00", "12"])
def test_a_text_that_is_no_period_is_refused(text: str) -> None:
    for read in (period.minute, period.hour):
        with pytest.raises(ValueError):
            read(text)
    for read in (period.day, period.week):
        with pytest.raises(ValueError):
            read(f"{text}T13:05" if text == "2011-07-01" else text)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
@pytest.mark.parametrize(("write", "read"), PAIRS)
def test_the_first_and_the_last_instant_have_periods(
    write: Callable[..., str], read: Callable[..., period.Span], zone: str
) -> None:
    first, last = read(write(MIN_INSTANT, zone), zone), read(write(MAX_INSTANT, zone), zone)
    assert first[0] == MIN_INSTANT < first[1]
    assert last[0] < last[1] == MAX_INSTANT
    assert len(write(MIN_INSTANT, zone)) == len(write(MAX_INSTANT, zone)) in (10, 16)


@given(
    st.sampled_from(PAIRS),
    st.sampled_from(ZONES),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_000), timezones=st.just(UTC)),
)
def test_every_event_lies_in_the_span_of_its_key(
    pair: tuple[Callable[..., str], Callable[..., period.Span]], zone: str, moment: datetime
) -> None:
    write, read = pair
    start, end = read(write(moment, zone), zone)
    assert start <= moment < end


@given(st.sampled_from(ZONES), st.sampled_from([2011, 2012, 2017, 2018]), st.integers(0, 366 * 48), st.integers(1, 6))
def test_every_event_near_a_daylight_change_lies_in_the_span_of_its_key(
    zone: str, year: int, half_hours: int, count: int
) -> None:
    moment = datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * half_hours)
    hours = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 12}[count]
    start, end = period.hour(period.hour_key(moment, zone, hours), zone, hours)
    assert start <= moment < end


def test_a_span_says_its_unit_and_zone_and_stays_a_pair() -> None:
    span = period.minute("2011-07-01T13:05", "Europe/Berlin", count=5)
    for found in (span, copy.deepcopy(span), pickle.loads(pickle.dumps(span))):
        assert isinstance(found, tuple)
        assert (found.unit, found.unit_count, found.zone) == ("minute", 5, ZoneInfo("Europe/Berlin"))
        assert found == (at("2011-07-01T11:05Z"), at("2011-07-01T11:10Z"))


def test_an_empty_span_overlaps_nothing() -> None:
    skipped: Any = period.hour("2011-03-27T02:00", "Europe/Berlin")
    around = (at("2011-03-27T00:00Z"), at("2011-03-27T02:00Z"))
    assert not period.overlaps(skipped, around)
    assert not period.overlaps(around, skipped)
    assert period.overlaps(around, period.hour("2011-03-27T03:00", "Europe/Berlin"))
    assert period.union(skipped, around) == around


@pytest.mark.parametrize("zone", [tz.gettz("Europe/Berlin"), OfPytz("Europe/Berlin"), of_file("Europe/Berlin")])
def test_all_functions_take_any_tzinfo(zone: Any) -> None:
    for instant in (datetime(2011, 7, 1, 22, 5, tzinfo=UTC), datetime(2011, 10, 30, 1, 30, tzinfo=UTC)):
        for unit in ("minute", "hour", "day", "week", "month", "year"):
            key = getattr(period, f"{unit}_key")(instant, zone)
            assert key == getattr(period, f"{unit}_key")(instant, "Europe/Berlin")
            assert tuple(getattr(period, unit)(key, zone)) == tuple(getattr(period, unit)(key, "Europe/Berlin"))
