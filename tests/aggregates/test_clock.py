"""Wall clocks of zones: readings that occur twice or never, and the ends of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from dateutil import tz
from hypothesis import given
from hypothesis import strategies as st

from aggregates.clock import MAX_INSTANT, MIN_INSTANT, wall_clock
from tests.support.aggregates.zones import Fixed, OfPytz, Summer, WithoutDst, of_file

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "+05:30",
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("zone", "reading", "first", "last"),
    [
        ("Europe/Berlin", "2011-07-01T13:00", "2011-07-01T11:00Z", "2011-07-01T11:00Z"),
        ("Europe/Berlin", "2011-10-30T02:30", "2011-10-30T00:30Z", "2011-10-30T01:30Z"),
        ("Europe/Berlin", "2011-03-27T02:30", "2011-03-27T01:00Z", "2011-03-27T01:00Z"),
        ("Europe/Berlin", "2011-03-27T02:59:59.999999", "2011-03-27T01:00Z", "2011-03-27T01:00Z"),
        ("Australia/Lord_Howe", "2011-04-03T01:45", "2011-04-02T14:45Z", "2011-04-02T15:15Z"),
        ("Australia/Lord_Howe", "2011-10-02T02:10", "2011-10-01T15:30Z", "2011-10-01T15:30Z"),
        ("America/Sao_Paulo", "2017-10-15T00:00", "2017-10-15T03:00Z", "2017-10-15T03:00Z"),
        ("Asia/Beirut", "2011-03-27T00:00", "2011-03-26T22:00Z", "2011-03-26T22:00Z"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00Z", "2011-12-30T10:00Z"),
        ("-03:30", "2011-07-01T00:00", "2011-07-01T03:30Z", "2011-07-01T03:30Z"),
    ],
)
def test_a_reading_has_a_first_and_a_last_instant(zone: str, reading: str, first: str, last: str) -> None:
    clock = wall_clock(zone)
    assert (clock.first(at(reading)), clock.last(at(reading))) == (at(first), at(last))


def test_what_is_before_a_doubled_reading_ends_with_its_first_occurrence() -> None:
    assert wall_clock("Europe/Berlin").end(at("2011-10-30T02:00")) == at("2011-10-30T00:00Z")
    assert wall_clock("Europe/Berlin").end(at("2011-10-30T03:00")) == at("2011-10-30T02:00Z")


@pytest.mark.parametrize("zone", ZONES)
def test_the_ends_of_time_are_clamped(zone: str) -> None:
    clock = wall_clock(zone)
    assert clock.first(datetime.min) == MIN_INSTANT
    assert clock.last(datetime.max) == clock.end(datetime.max) == MAX_INSTANT
    for instant in (MIN_INSTANT, MAX_INSTANT):
        reading = clock.reading(instant)
        assert clock.first(reading) <= instant <= clock.last(reading)


@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(1800, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(microsecond=0)),
)
def test_every_instant_lies_between_the_first_and_the_last_of_its_reading(zone: str, moment: datetime) -> None:
    clock, instant = wall_clock(zone), moment.replace(tzinfo=UTC)
    reading = clock.reading(instant)
    assert clock.first(reading) <= instant <= clock.last(reading) < clock.end(reading + timedelta(seconds=1))


@given(st.sampled_from(ZONES), st.datetimes(), st.timedeltas(timedelta(0), timedelta(days=40)))
def test_readings_in_order_have_instants_in_order(zone: str, reading: datetime, distance: timedelta) -> None:
    later = reading + distance if reading < datetime(9999, 11, 1) else datetime.max
    clock = wall_clock(zone)
    assert clock.first(reading) <= clock.first(later)
    assert clock.first(reading) <= clock.end(later) or distance == timedelta(0)


def test_a_clock_is_found_by_name_offset_or_tzinfo() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert wall_clock("Europe/Berlin").name == wall_clock(berlin).name == "Europe/Berlin"
    assert wall_clock(UTC).name == wall_clock("UTC").name == wall_clock(ZoneInfo("UTC")).name == "UTC"
    assert wall_clock(timezone(timedelta(hours=-3, minutes=-30))).name == wall_clock("-03:30").name == "-03:30"
    with pytest.raises(ZoneInfoNotFoundError):
        wall_clock("Mars/Base")


BERLIN = [
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("posix/Europe/Berlin") if Path("/usr/share/zoneinfo/posix").exists() else ZoneInfo("Europe/Berlin"),
    tz.gettz("Europe/Berlin"),
    OfPytz("Europe/Berlin"),
]


@pytest.mark.parametrize("zone", BERLIN, ids=lambda zone: type(zone).__module__)
def test_a_tzinfo_that_tells_a_name_of_the_database_is_that_zone(zone: tzinfo) -> None:
    clock = wall_clock(zone)
    assert clock.name == "Europe/Berlin"
    assert clock.first(at("2011-10-30T02:30")) == at("2011-10-30T00:30Z")
    assert clock.last(at("2011-10-30T02:30")) == at("2011-10-30T01:30Z")


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (tz.tzutc(), "UTC"),
        (tz.gettz("UTC"), "UTC"),
        (tz.tzoffset("CET", 3600), "+01:00"),
        (tz.tzoffset(None, -12_600), "-03:30"),
        (Fixed(timedelta(hours=5, minutes=45)), "+05:45"),
        (Fixed(timedelta(0)), "UTC"),
        (timezone(timedelta(minutes=53, seconds=28)), "+00:53:28"),
        (timezone(-timedelta(minutes=53, seconds=28, microseconds=5)), "-00:53:28.000005"),
        (timezone(timedelta(hours=2), "EET"), "+02:00"),
    ],
)
def test_a_fixed_offset_is_found_again_by_its_name(zone: tzinfo, name: str) -> None:
    clock = wall_clock(zone)
    assert clock.name == name
    assert wall_clock(name).fixed_offset == clock.fixed_offset == at("2011-07-01").replace(tzinfo=zone).utcoffset()


@pytest.mark.parametrize(
    "zone", [of_file("Europe/Berlin"), Summer(), WithoutDst(), tz.tzstr("CET-1CEST,M3.5.0,M10.5.0/3")]
)
def test_a_zone_without_a_name_keeps_its_own_rules(zone: tzinfo) -> None:
    clock = wall_clock(zone)
    assert clock.name == ""
    assert clock.fixed_offset is None
    for month, hours in ((1, 1), (7, 2)):
        reading = datetime(2011, month, 15, 12)
        instant = reading.replace(tzinfo=UTC) - timedelta(hours=hours)
        assert clock.first(reading) == clock.last(reading) == instant
        assert clock.reading(instant) == reading
        assert clock.offset(instant) == timedelta(hours=hours)
    assert wall_clock(zone) is clock


def test_a_zone_that_once_had_another_offset_is_no_fixed_offset() -> None:
    assert wall_clock(of_file("Asia/Kolkata")).fixed_offset is None
    assert wall_clock(of_file("Etc/GMT-5")).name == "+05:00"
