"""Times as people write them: what each text names, by which clock, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.clock import MAX_INSTANT, MIN_INSTANT
from aggregates.exceptions import TimeTextError
from aggregates.time_reader import NamedTime, read_time

NOW = datetime(2024, 3, 31, 15, 30, 7, 123456, tzinfo=UTC)
BERLIN = "Europe/Berlin"
TICK = timedelta(microseconds=1)
REFUSED = [
    "", " ", "yesterday", "7d", "-7", "-7x", "--7d", "+7d", "-7d-7d", "\u22127d", "0", "7", "999", "0000",
    "1234567890123456", "2011-13", "2011-00", "2011-07-32", "2011-02-29", "2011-W00", "2010-W53", "2011-W",
    "2011-W27-1", "2011-7-1", "2011-07-01T", "2011-07-01T25", "2011-07-01T24:01", "2011-07-01T12:60",
    "2011-07-01T24:00:01", "2011-07-01T24:00:00.5", "2011-07-01T23:59:60+02:00", "2011-07-01T23:59:61",
    "2011-07-01T12:00:60", "2011-07-01T1:00", "2011-07-01T13:00+2", "2011-07-01T13:00+24:00",
    "2011-07-01T13:00+02:60", "2011-07-01T13:00+02:0", "2011-07-01T13:00++02:00", "2011-07-01T13:00   02:00",
    "2011-07-01 13", "2011-07-01 0200", "2011-07-01 02", "2011-07-01+02", "2011-07+02:00", "2011-07 02:00",
    "2011+02:00", "2011 02:00", "2011-W27+02:00", "11-07-01", "01.07.2011", "07/01/2011", "2011/07/01",
    "Fri Jul 1 2011", "2011-07-01T13:00 CEST", "2011-07-01T13:00:00.1234567890", "２０１１",
    "2011-07-01T13:00Europe/Berlin", "12011-07-01", "-2011-07-01", "\0", "'", "2011-07-01\x00", "1e3",
    "1_000_000",
]  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def named(text: str, zone: str = "UTC") -> NamedTime:
    return read_time(text, zone, NOW)


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2011", "2011-01-01", "2012-01-01"),
        ("1066", "1066-01-01", "1067-01-01"),
        ("2011-07", "2011-07-01", "2011-08-01"),
        ("2011-12", "2011-12-01", "2012-01-01"),
        ("2012-02", "2012-02-01", "2012-03-01"),
        ("2011-W27", "2011-07-04", "2011-07-11"),
        ("2009-W53", "2009-12-28", "2010-01-04"),
        ("2011-07-01", "2011-07-01", "2011-07-02"),
        ("2011-12-31", "2011-12-31", "2012-01-01"),
        ("2011-07-01T13", "2011-07-01T13", "2011-07-01T14"),
        ("2011-07-01T13:05", "2011-07-01T13:05", "2011-07-01T13:06"),
        ("2011-07-01T13:05:07", "2011-07-01T13:05:07", "2011-07-01T13:05:08"),
        ("2011-07-01T13:05:07.5", "2011-07-01T13:05:07.500", "2011-07-01T13:05:07.600"),
        ("2011-07-01T13:05:07,123", "2011-07-01T13:05:07.123", "2011-07-01T13:05:07.124"),
        ("2011-07-01T13:05:07.123456789", "2011-07-01T13:05:07.123456", "2011-07-01T13:05:07.123457"),
        ("2011-07-01T23:59:59Z", "2011-07-01T23:59:59", "2011-07-02T00:00:00"),
        ("2011Z", "2011-01-01", "2012-01-01"),
        ("2011-07-01Z", "2011-07-01", "2011-07-02"),
        ("2011-07-01+02:00", "2011-06-30T22:00", "2011-07-01T22:00"),
        ("2011-07-01-0330", "2011-07-01T03:30", "2011-07-02T03:30"),
        ("2011-07-01T13+02:00", "2011-07-01T11:00", "2011-07-01T12:00"),
        ("2011-07-01T13:00:30-05:30", "2011-07-01T18:30:30", "2011-07-01T18:30:31"),
        ("today", "2024-03-31", "2024-04-01"),
    ],
)
def test_a_date_names_everything_that_it_leaves_open(text: str, first: str, after: str) -> None:
    assert named(text) == NamedTime(utc(first), utc(after) - TICK)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("-90s", NOW - timedelta(seconds=90)),
        ("-7d", NOW - timedelta(days=7)),
        ("-0mo", NOW),
        ("-1mo", NOW.replace(month=2, day=29)),
        ("-6mo", NOW.replace(year=2023, month=9, day=30)),
        ("-1y", NOW.replace(year=2023)),
        ("12345", utc("1970-01-01T00:00:12.345")),
        ("1309579200000", utc("2011-07-02T04:00")),
        ("100000000000000", utc("5138-11-16T09:46:40")),
        ("999999999999999", MAX_INSTANT),
        ("-999999y", MIN_INSTANT),
        ("-999999w", MIN_INSTANT),
    ],
)
def test_other_forms_name_an_instant(text: str, moment: datetime) -> None:
    assert named(text, BERLIN) == NamedTime(moment, moment)


@pytest.mark.parametrize(
    ("text", "zone", "midnight"),
    [
        ("2011-07-01T24:00", "UTC", "2011-07-02"),
        ("2011-07-01T24", "UTC", "2011-07-02"),
        ("2011-07-01 24:00:00.000Z", BERLIN, "2011-07-02"),
        ("2011-07-01T24:00", BERLIN, "2011-07-01T22:00"),
        ("2011-12-31T24:00+02:00", "UTC", "2011-12-31T22:00"),
        ("2016-12-31T23:59:60Z", BERLIN, "2017-01-01"),
        ("2017-01-01T00:59:60", BERLIN, "2017-01-01"),
        ("2016-12-31T18:59:60-05:00", "UTC", "2017-01-01"),
    ],
)
def test_24_00_and_the_leap_second_are_the_last_instant_of_their_day(text: str, zone: str, midnight: str) -> None:
    assert named(text, zone) == NamedTime(utc(midnight) - TICK, utc(midnight) - TICK)


def test_24_00_of_the_last_day_is_the_last_instant() -> None:
    assert named("9999-12-31T24:00").last == MAX_INSTANT


@pytest.mark.parametrize(
    ("zone", "text", "first", "after"),
    [
        (BERLIN, "2011-07", "2011-06-30T22:00", "2011-07-31T22:00"),
        (BERLIN, "2011-10", "2011-09-30T22:00", "2011-10-31T23:00"),  # an hour longer
        (BERLIN, "2011-10-30", "2011-10-29T22:00", "2011-10-30T23:00"),
        (BERLIN, "2011-10-30T01", "2011-10-29T23:00", "2011-10-30T00:00"),
        (BERLIN, "2011-10-30T02", "2011-10-30T00:00", "2011-10-30T02:00"),  # occurs twice
        (BERLIN, "2011-10-30T02:30", "2011-10-30T00:30", "2011-10-30T01:31"),
        (BERLIN, "2011-10-30T02:30+02:00", "2011-10-30T00:30", "2011-10-30T00:31"),
        (BERLIN, "2011-10-30T02:30+01:00", "2011-10-30T01:30", "2011-10-30T01:31"),
        (BERLIN, "2011-03-27", "2011-03-26T23:00", "2011-03-27T22:00"),
        (BERLIN, "2011-03-27T01", "2011-03-27T00:00", "2011-03-27T01:00"),
        (BERLIN, "2011-03-27T03", "2011-03-27T01:00", "2011-03-27T02:00"),
        (BERLIN, "today", "2024-03-30T23:00", "2024-03-31T22:00"),
        ("America/Sao_Paulo", "2017-10-15", "2017-10-15T03:00", "2017-10-16T02:00"),  # has no midnight
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00", "2018-02-18T03:00"),  # has 23 o'clock twice
        ("Australia/Lord_Howe", "2011-04-03T01", "2011-04-02T14:00", "2011-04-02T15:30"),  # half an hour back
        ("Asia/Kolkata", "2011-07-01T13:05", "2011-07-01T07:35", "2011-07-01T07:36"),
        ("Pacific/Kiritimati", "today", "2024-03-31T10:00", "2024-04-01T10:00"),
    ],
)
def test_dates_follow_the_clock_of_the_zone(zone: str, text: str, first: str, after: str) -> None:
    assert named(text, zone) == NamedTime(utc(first), utc(after) - TICK)


@pytest.mark.parametrize(
    ("zone", "text", "jump"),
    [
        (BERLIN, "2011-03-27T02", "2011-03-27T01:00"),
        (BERLIN, "2011-03-27T02:30", "2011-03-27T01:00"),
        (BERLIN, "2011-03-27T02:59:59", "2011-03-27T01:00"),
        ("Australia/Lord_Howe", "2011-10-02T02:15", "2011-10-01T15:30"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00"),
    ],
)
def test_a_reading_that_does_not_occur_is_the_instant_of_the_jump(zone: str, text: str, jump: str) -> None:
    assert named(text, zone) == NamedTime(utc(jump), utc(jump))


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "America/New_York", "Pacific/Kiritimati"])
def test_the_first_and_the_last_year_end_where_time_does(zone: str) -> None:
    for text in ("9999", "9999-12", "9999-12-31", "9999-W52"):
        last = named(text, zone).last
        assert last == MAX_INSTANT or (zone == "Pacific/Kiritimati" and last > utc("9999-12-31")), text
    for text in ("0001", "0001-01", "0001-01-01", "0001-W01"):
        first = named(text, zone).first
        assert first == MIN_INSTANT or (zone == "America/New_York" and first < utc("0001-01-02")), text
    for text in ("0001-01-01T00:00+14:00", "0001-01-01T00:00:00+23:59"):
        assert named(text, zone).first == MIN_INSTANT
    assert named("9999-12-31T23:59:59-14:00", zone).last == MAX_INSTANT


@pytest.mark.parametrize(
    "text",
    [
        "2011-07-01T13:00+02:00", "2011-07-01T13:00 02:00", "2011-07-01T13:00+0200", "2011-07-01T13:00 0200",
        "2011-07-01T13:00+02", "2011-07-01T13:00 02", "2011-07-01 13:00+02:00", "2011-07-01 13:00 02:00",
        "2011-07-01 13:00 +0200", "2011-07-01 13:00  0200", "2011-07-01t13:00+02:00", "2011-07-01T11:00Z",
        "2011-07-01t11:00z", "2011-07-01 11:00 z", " 2011-07-01T13:00+02:00\n", "2011-07-01T09:00-02:00",
        "2011-07-01T09:00\u221202:00", "2011\u221207\u221201 09:00 \u22120200", "2011-07-01T08:00-03",
    ],
)  # fmt: skip
def test_pasted_forms_are_read(text: str) -> None:
    assert named(text, "America/New_York") == NamedTime(utc("2011-07-01T11:00"), utc("2011-07-01T11:01") - TICK)


def test_pasted_forms_without_an_offset_are_local() -> None:
    for text in ("2011-07-01 13:00", "2011-07-01t13:00"):
        assert named(text, BERLIN) == NamedTime(utc("2011-07-01T11:00"), utc("2011-07-01T11:01") - TICK)
    assert named("2011-07-01 13:00:05.5 05:30").first == utc("2011-07-01T07:30:05.500")


@pytest.mark.parametrize("text", REFUSED)
def test_other_texts_are_refused_with_the_value_and_right_forms(text: str) -> None:
    with pytest.raises(TimeTextError, match=r"is not a point in time: use a date .*2011-07-01T13:00\+02:00") as caught:
        named(text)
    assert repr(text[:60]) in str(caught.value)


@pytest.mark.parametrize(("text", "date"), [("20110701", "2011-07-01"), ("20110701130000", "2011-07-01")])
def test_digits_that_look_like_a_date_are_not_read_as_1970(text: str, date: str) -> None:
    with pytest.raises(TimeTextError, match=f"could be a date or milliseconds since 1970: write {date} for the date"):
        named(text)


def test_other_digits_are_milliseconds() -> None:
    assert named("20111301").first == utc("1970-01-01T05:35:11.301")
    assert named("1309579200").first == utc("1970-01-16T03:46:19.200")


@given(st.text(st.sampled_from("0123456789-+: TZWtz.,adnosw\u2212"), max_size=30), st.sampled_from(["UTC", BERLIN]))
def test_any_text_is_an_ordered_pair_or_refused(text: str, zone: str) -> None:
    try:
        found = named(text, zone)
    except TimeTextError:
        return
    assert MIN_INSTANT <= found.first <= found.last <= MAX_INSTANT
