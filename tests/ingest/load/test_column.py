"""The cells of CSV as fields of events: times, numbers, JSON, and what is refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.exceptions import LoadError
from ingest.load.column import refuse_conflicts
from tests.support.durations import assert_within
from tests.support.ingest.csv_file import loaded, write


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("20240131", "2024-01-31"),
        ("202401311530", "2024-01-31T15:30"),
        ("20240131153059", "2024-01-31T15:30:59"),
        ("20240131153059250", "2024-01-31T15:30:59.250"),
        ("202401312400", "2024-02-01"),
        ("20240131240000", "2024-02-01"),
        ("20240131240000000", "2024-02-01"),
        ("20161231235960", "2017-01-01"),
        ("190001010000", "1900-01-01"),
        ("219912312359", "2199-12-31T23:59"),
        ("189912311200", "1976-01-08T01:25:11.200"),
        ("220001010000", "1976-12-21T07:23:30"),
        ("1706702400", "2024-01-31T12:00"),
        ("2024013199", "2034-02-20T01:53:19"),
        ("1706702400.25", "2024-01-31T12:00:00.250"),
        ("946684800", "2000-01-01"),
        ("1706702400250", "2024-01-31T12:00:00.250"),
        ("946684800000", "2000-01-01"),
        ("1706702400250000", "2024-01-31T12:00:00.250"),
        ("1706702400250000000", "2024-01-31T12:00:00.250"),
        ("2024-01-31T12:00:00z", "2024-01-31T12:00"),
        (" 2024-01-31 ", "2024-01-31"),
    ],
)
def test_a_date_of_digits_is_read_by_their_number(tmp_path: Path, cell: str, moment: str) -> None:
    path = write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n")
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert loaded(path) == [(2, {"type": "a", "timestamp": expected})]


@pytest.mark.parametrize(
    "cell",
    ["0", "7", "2024", "202401", "240131", "1234567", "12345678", "99999999", "12345678901", "-1706702400",
     "2024013115", "2030123100", "2024013115300", "202401311530002", "2024013115300025", "202401311530001234",
     "2024013115300012345", "-20240131", "-202401311530", "0000000000", "12345678901234", "12345678901234567890",
     "1.7e9", "1_706_702_400", "１７０６７０２４００", "NaN",
     "31.01.2024", "1/31/2024"],
)  # fmt: skip
def test_a_date_of_digits_that_could_mean_several_things_is_refused(tmp_path: Path, cell: str) -> None:
    ((number, fault),) = loaded(write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n"))
    assert number == 2
    assert "column timestamp: " in str(fault)
    assert cell in str(fault)
    assert "2011-07-01T13:00:00Z" in str(fault) or "--map timestamp=timestamp:" in str(fault)


@pytest.mark.parametrize(
    "cell",
    ["20241331", "20240230", "20240100", "202401311560", "202401312401", "202413011200", "20240131240001",
     "20240131125960", "20240131235961", "20240131240000123", "20240132120000123", "20241331120000123"],
)  # fmt: skip
def test_a_date_of_digits_that_does_not_exist_is_refused_with_the_cell(tmp_path: Path, cell: str) -> None:
    ((_, fault),) = loaded(write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n"))
    assert f"column timestamp: {cell!r} is no date: " in str(fault)


@pytest.mark.parametrize(
    ("cell", "date", "unit"),
    [
        ("2024013115", "2024-01-31T15:00", "seconds"),
        ("2024013115300", "2024-01-31T15:30", "ms"),
        ("2024013115300025", "2024-01-31T15:30:00.25", "us"),
        ("2024013115300012345", "2024-01-31T15:30:00.12345", "ns"),
    ],
)
def test_digits_that_may_be_a_date_or_a_count_say_how_to_write_both(
    tmp_path: Path, cell: str, date: str, unit: str
) -> None:
    ((_, fault),) = loaded(write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n"))
    assert f"write {date}, or say what it counts: --map timestamp=timestamp:{unit}" in str(fault)
    ((_, read),) = loaded(tmp_path / "x.csv", "type=type", f"timestamp=timestamp:{unit}")
    assert isinstance(read, dict)


@pytest.mark.parametrize("cell", ["", '""', " ", '"  "'])
@pytest.mark.parametrize("type_", ["", ":text", ":seconds", ":ms", ":json"])
def test_an_empty_time_is_refused_and_other_empty_cells_are_left_out(tmp_path: Path, cell: str, type_: str) -> None:
    path = write(tmp_path / "x.csv", f"type,timestamp,extra\na,{cell},1\nb,1706702400,\n")
    for mapping in ([], ["type=type", f"timestamp=timestamp{type_}", "extra=extra"]):
        (number, fault), (_, good) = loaded(path, *mapping)
        assert (number, str(fault).partition(":")[0]) == (2, "column timestamp")
        assert "the time is empty: fill it in" in str(fault) or " " in cell
        assert set(good) == {"type", "timestamp"}
    assert set(loaded(path, "type=type")[0][1]) == {"type"}, "without a column for it, it is the time of loading"


@pytest.mark.parametrize(
    ("unit", "cell", "moment"),
    [
        ("seconds", "0", "1970-01-01"), ("seconds", "-86400.5", "1969-12-30T23:59:59.500"),
        ("ms", "20240131", "1970-01-01T05:37:20.131"), ("us", "1500000", "1970-01-01T00:00:01.500"),
        ("ns", "1500000000", "1970-01-01T00:00:01.500"), ("ms", "-1", "1969-12-31T23:59:59.999"),
    ],
)  # fmt: skip
def test_a_unit_of_time_can_be_named(tmp_path: Path, unit: str, cell: str, moment: str) -> None:
    path = write(tmp_path / "x.csv", f"when\n{cell}\nx\n1e5\n{'9' * 25}\n")
    found = loaded(path, "type==a", f"timestamp=when:{unit}")
    assert found[0] == (2, {"type": "a", "timestamp": datetime.fromisoformat(moment).replace(tzinfo=UTC)})
    assert [f"read as {unit}" in str(fault) for _, fault in found[1:3]] == [True, True]
    assert "outside the years" in str(found[3][1])


@pytest.mark.parametrize(
    "cell", ["NaN", "nan", "inf", "-Infinity", "1e999", "1_000", "１２", "0x1F", "1,5", "--1", "1 2"]
)
@pytest.mark.parametrize("type_", ["int", "float"])
def test_a_number_that_json_would_refuse_is_refused(tmp_path: Path, cell: str, type_: str) -> None:
    path = write(tmp_path / "x.csv", f'n\n"{cell}"\n3\n')
    (_, fault), (_, good) = loaded(path, "type==a", f"extra=n:{type_}")
    assert fault == f"column n: {cell!r} cannot be read as {type_}"
    assert good == {"type": "a", "extra": 3}


def test_numbers_of_every_size_keep_their_type(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "i;f\n-9223372036854775808;1.5e-3\n+7; .5 \n9223372036854775808;1.\n")
    found = loaded(path, "type==a", "context.i=i:int", "context.f=f:float")
    assert [event["context"] for _, event in found[:2] if isinstance(event, dict)] == [
        {"i": -(2**63), "f": 0.0015}, {"i": 7, "f": 0.5},
    ]  # fmt: skip
    assert found[2][1] == "column i: '9223372036854775808' cannot be read as int"


def test_bad_json_in_a_cell_names_the_column_and_the_value(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv", 'j\n{"\n"{""a"": 1, ""a"": 2}"\n"{""$numberLong"": ""5""}"\n'.replace('{"\n', '"{"\n')
    )
    bad, twice, good = loaded(path, "type==a", "extra=j:json")
    assert str(bad[1]).startswith("column j: '{' is not JSON: ")
    assert str(twice[1]).startswith(
        """column j: '{"a": 1, "a": 2}' is not JSON: an object has more than one field 'a'"""
    )
    assert good[1] == {"type": "a", "extra": 5}


def test_a_mapped_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="more than one column 'n'"):
        loaded(write(tmp_path / "x.csv", "n,n\n1,2\n"), "type=n")


def test_many_columns_are_compared_in_time_that_grows_with_their_number() -> None:
    fields = ["type", *(f"context.c{number}" for number in range(50_000))]

    def compare() -> float:
        own = time.process_time()  # not the clock: the machine may be busy with other tests
        refuse_conflicts(fields)
        return time.process_time() - own

    assert_within(2.0, compare, tries=1)
    for conflict in ("context", "context.c7.d", "context.c9"):
        with pytest.raises(LoadError, match=conflict):
            refuse_conflicts([*fields, conflict])
