"""Times as text, in the forms of RFC 3339 and ISO 8601."""

from __future__ import annotations

import datetime as dt

import pytest

from ingest.wire.time_text import DateError, parse_time

NOON = "2024-01-31T12:00:00"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("2024-01-31T12:00:00Z", NOON),
        ("2024-01-31t12:00:00z", NOON),
        ("2024-01-31 12:00:00z", NOON),
        ("2024-01-31 12:00:00", NOON),
        ("2024-01-31T12:00:00", NOON),
        ("2024-01-31T12:00", NOON),
        ("2024-01-31T12", NOON),
        ("20240131T120000Z", NOON),
        ("2024-01-31T12:00:00-00:00", NOON),
        ("2024-01-31T14:00:00+02:00", NOON),
        ("2024-01-31T14:00:00 +02:00", NOON),
        ("2024-01-31T14:00:00+0200", NOON),
        ("2024-01-31T14:00+02", NOON),
        ("2024-01-31T06:30:00.000-05:30", NOON),
        ("2024-W05-3T12:00:00Z", NOON),
        ("2024-01-31", "2024-01-31T00:00:00"),
        ("20240131", "2024-01-31T00:00:00"),
        ("2024-01-31T12:00:00.5Z", "2024-01-31T12:00:00.500000"),
        ("2024-01-31T12:00:00,25", "2024-01-31T12:00:00.250000"),
        ("2024-01-31T12:00:00.1234567890123Z", "2024-01-31T12:00:00.123456"),
        ("2024-01-31t12:00:00.9999999999z", "2024-01-31T12:00:00.999999"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        ("2016-12-31T23:59:60.75Z", "2017-01-01T00:00:00"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00"),
        ("2015-06-30T23:59:60", "2015-07-01T00:00:00"),
        ("1991-01-01T05:29:60+05:30", "1991-01-01T00:00:00"),
        ("1991-01-01T05:44:60.5+05:45", "1991-01-01T00:00:00"),
        ("1990-12-31T20:29:60-03:30", "1991-01-01T00:00:00"),
        ("2024-01-31T24:00:00Z", "2024-02-01T00:00:00"),
        ("2024-12-31T24:00", "2025-01-01T00:00:00"),
        ("2024-01-31T24:00:00.000+02:00", "2024-01-31T22:00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999000"),
    ],
)
def test_every_form_names_one_moment(text: str, meaning: str) -> None:
    assert parse_time(text) == dt.datetime.fromisoformat(meaning).replace(tzinfo=dt.UTC)
    assert parse_time(text).tzinfo is dt.UTC


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2024-1-31", "2024-02-30", "2024-13-01", "31.01.2024", "2024-01-31T", "2024-01-31x12:00",
        "2024-01-31T25:00", "2024-01-31T24:00:01", "2024-01-31T24:01", "2024-01-31T12:60", "2024-01-31T12:00:61",
        "2024-01-31T12:00:60Z", "2024-01-31T12:59:60Z", "2016-12-31T23:59:60+01:00", "2024-01-31T12:00:00.Z",
        "2024-01-31T12:00:00:123Z", "2024-01-31T12:00:00:123+00:00", "2024-01-31T12:00:00 123456Z",
        "2024-01-01T05:29:60Z",
        "2024-01-31T12:11.5", "2024-01-31T12:00:00+24:00", "2024-01-31T12:00:00+02:60", "2024-01-31T12:00:00ZZ",
        " 2024-01-31", "2024-01-31\n", "2024-01-31T12:00:00Z\n", "٢٠٢٤-01-31", "2024-01-31T1２:00:00Z", "17111213112",
        "1700000000", "+2024-01-31", "2024-01-31T12:00:00 Europe/Berlin",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(DateError) as refused:
        parse_time(text)
    code, message = refused.value.args
    assert code == "bad_timestamp"
    assert repr(text)[:20] in message


@pytest.mark.parametrize("text", ["2024-02-30", "2024-13-01", "2024-01-31T25:00", "2024-W54-1", "20240230T1200Z"])
def test_the_refusal_of_a_day_or_time_that_does_not_exist_says_so(text: str) -> None:
    with pytest.raises(DateError, match="does not exist"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T24:00:00Z", "9999-12-31T23:59:60Z",
     "9999-12-31T23:59:59-01:00"],
)  # fmt: skip
def test_a_time_outside_the_years_1_to_9999_has_its_own_code(text: str) -> None:
    with pytest.raises(DateError) as refused:
        parse_time(text)
    assert refused.value.args[0] == "date_out_of_range"
