"""CSV: delimiters, long cells, quotes, encodings, and bad rows beside good ones."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.exceptions import LoadError
from ingest.load.column import parse_mapping
from ingest.load.csv_rows import DELIMITERS, CsvTable, read_delimiter
from ingest.load.file_format import FileOptions, read
from ingest.load.line_reader import MAX_LINE, bounded_lines

AWARE = CodecOptions[dict[str, Any]](tz_aware=True)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(text: str, delimiter: str = "") -> CsvTable:
    return CsvTable(bounded_lines(io.StringIO(text, newline="").readline), delimiter)


def rows(text: str) -> list[tuple[int, Any]]:
    """Return the number of each row with its cells, or with the start of its fault."""
    return [(row.number, row.fault[:20] if row.fault else row.cells) for row in table(text)]


def loaded(path: Path, *mapping: str, delimiter: str = "") -> list[tuple[int, dict[str, Any] | str]]:
    found = read(path, FileOptions(parse_mapping(mapping), delimiter))
    return [
        (line.number, line.fault or {k: v for k, v in bson.decode(line.event, AWARE).items() if k != "id"})
        for line in found
    ]


@pytest.mark.parametrize("mark", DELIMITERS)
@pytest.mark.parametrize("quoted", [True, False])
def test_the_header_tells_the_delimiter(tmp_path: Path, mark: str, quoted: bool) -> None:
    names = ["when", "page, of; the\tsite" if quoted else "page"]
    header = mark.join(f'"{name}"' if quoted else name for name in names)
    path = write(tmp_path / "x.csv", f'{header}\n2024-01-31{mark}"a{mark}b"\n')
    assert loaded(path, "type==visit", "timestamp=when", f"context.page={names[1]}") == [
        (2, {"type": "visit", "timestamp": datetime(2024, 1, 31, tzinfo=UTC), "context": {"page": f"a{mark}b"}})
    ]


@pytest.mark.parametrize(
    ("text", "delimiter", "header"),
    [
        ("a;b,c;d\n", "", ["a", "b,c", "d"]),
        ("a;b,c;d\n", ",", ["a;b", "c;d"]),
        ("one column\n", "", ["one column"]),
        ("sep=;\na,x;b\n", "", ["a,x", "b"]),
        ('\n\n"a\nb";c\n', "", ["a\nb", "c"]),
        ("\ufeffa\tb\r\n", "", ["a", "b"]),
        ("", "", []),
    ],
)
def test_the_header_is_found(text: str, delimiter: str, header: list[str]) -> None:
    assert table(text, delimiter).header == header


def test_the_delimiter_with_the_mapped_columns_wins_over_the_one_with_more(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "kind;a,b,c,d\nvisit;1\n")
    assert loaded(path, "type=kind") == [(2, {"type": "visit"})]
    assert loaded(path, "type==x", "context.a=kind;a", delimiter=",")[0][1] == "1 cells; the header has 4"
    with pytest.raises(LoadError, match="has no column when; it has kind;a, b, c, d"):
        loaded(path, "type==x", "timestamp=when")


@pytest.mark.parametrize(("text", "mark"), [(";", ";"), ("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("^", "^")])
def test_a_delimiter_can_be_named(text: str, mark: str) -> None:
    assert read_delimiter(text) == mark


@pytest.mark.parametrize("text", ["", "ab", '"', "\n"])
def test_what_is_no_delimiter_is_refused(text: str) -> None:
    with pytest.raises(LoadError, match="--delimiter"):
        read_delimiter(text)


def test_a_long_cell_is_read_and_one_beyond_the_bound_is_refused_alone(tmp_path: Path) -> None:
    long, quoted = "x" * 140_000, "y\n" * 70_000
    path = write(tmp_path / "x.csv", f'type,extra\na,{long}\nb,"{quoted}"\nc,{"z" * (MAX_LINE + 1)}\nd,1\n')
    found = loaded(path)
    assert [(number, event if isinstance(event, str) else event["type"]) for number, event in found] == [
        (2, "a"), (70_003, "b"), (70_004, f"the line has more than {MAX_LINE} characters"), (70_005, "d"),
    ]  # fmt: skip
    assert [event["extra"] for _, event in found[:2] if isinstance(event, dict)] == [long, quoted]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a,"b\nc,d\ne,f\n', [(2, "a quote is opened th"), (3, ["c", "d"]), (4, ["e", "f"])]),
        ('a,"b\nc,"d"\ne,f\n', [(2, "a quote is opened th"), (3, ["c", "d"]), (4, ["e", "f"])]),
        ('a,"b\nc,"d\ne,f\n', [(2, "a quote is opened th"), (3, "a quote is opened th"), (4, ["e", "f"])]),
        ('6" pipe,"b\n1,2\na,"b\nc"\nd,e\n', [(2, "a quote is opened th"), (3, ["1", "2"]), (5, ["a", "b\nc"]),
                                               (6, ["d", "e"])]),
        ('6",x,"b\nc,",d\ne,f\n', [(2, "a quote is opened th"), (3, "a quote is opened th"), (4, ["e", "f"])]),
        ('6",x,"b\n",c"\n', [(2, "a quote is opened th"), (3, "1 cells; the header ")]),
        ('a,"b\n\nc"\nd,e\n', [(4, ["a", "b\n\nc"]), (5, ["d", "e"])]),
        ('a,"b"x\nc,d\n', [(2, "not CSV: ',' expecte"), (3, ["c", "d"])]),
        ('a,5" disk\nc,d\n', [(2, ["a", '5" disk']), (3, ["c", "d"])]),
        ("a\na,b,c\n\n,\nc,d\n", [(2, "1 cells; the header "), (3, "3 cells; the header "), (5, "all cells are empty"),
                                  (6, ["c", "d"])]),
        ('"a ""quoted"" b",c\r\nd,e', [(2, ['a "quoted" b', "c"]), (3, ["d", "e"])]),
        ("a,b\n\ufeffx,y\n\ufeffc,d\n", [(2, ["a", "b"]), (3, "the header once more"), (4, ["c", "d"])]),
        ("a,b\rc,d\r", [(2, ["a", "b"]), (3, ["c", "d"])]),
    ],
)  # fmt: skip
def test_a_bad_row_leaves_the_rows_beside_it_alone(text: str, expected: Any) -> None:
    assert rows(f"x,y\n{text}") == expected


LINES = 30_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("header", "start", "line", "good"),
    [
        ("a,b", '6" pipe,"broken\n', "12345,67890\n", LINES),
        ("a,b", "", '6",pipe,"b\n', 0),
        ("a,b,c", "", '6",pipe,"b\n', 0),
        ("a,b,c", "", 'x,",","\n', 0),
        ("a,b", "", 'x,"y\nx,y\n', LINES),
    ],
    ids=["never closed", "inside quotes again", "closed at the end", "closed too early", "every other one"],
)
def test_the_time_for_rows_with_open_quotes_grows_with_their_number(
    header: str, start: str, line: str, good: int
) -> None:
    assert sum(not row.fault for row in table(f"{header}\n{start}{line * LINES}")) == good


@pytest.mark.timeout(20)
def test_an_open_quote_in_the_header_is_refused_in_time() -> None:
    with pytest.raises(LoadError, match="the header, cannot be read"):
        table('"a,b\n' + "1,2\n" * 400_000)
    with pytest.raises(LoadError, match="the header, cannot be read: several rows in one"):
        table('5" disk,b\n1,2\n"3",4\n')


CELL = st.text(st.sampled_from('ab",;\n\t é'), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=8), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t"))
def test_what_the_standard_library_writes_is_read_back(written: list[tuple[str, str]], end: str, mark: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=mark, lineterminator=end).writerows([("first", "second"), *written])
    found = table(out.getvalue())
    assert found.delimiter == mark
    assert [tuple(row.cells) for row in found if not row.fault] == [row for row in written if any(row)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_is_read_in_the_encoding_of_its_mark(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "x.csv", "type\textra\r\nvisit\té\U0001f600\r\n".encode(encoding))
    assert loaded(path) == [(2, {"type": "visit", "extra": "é\U0001f600"})]


def test_other_encodings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "type,extra\na,é\nb,c\n".encode("latin-1"))
    (_, fault), (_, good) = loaded(path)
    assert "column extra: '\\udce9' is not UTF-8" in str(fault)
    assert good == {"type": "b", "extra": "c"}
    with pytest.raises(LoadError, match=r"without a byte order mark: convert it to UTF-8"):
        loaded(write(tmp_path / "y.csv", "type,extra\na,b\n".encode("utf-16-le")))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_row_with_half_of_a_surrogate_pair_is_refused_alone(tmp_path: Path, encoding: str) -> None:
    good = "a,b\n" * 5_000
    text = f"\ufefftype,extra\n{good}a,\ud83d\n\udfff,b\n{good}a,"
    found = loaded(write(tmp_path / "x.csv", text.encode(encoding, "surrogatepass") + b"\n"))
    assert [number for number, value in found if isinstance(value, str)] == [5_002, 5_003, 10_004]
    assert len(found) == 10_003


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
     "2024013115", "2030123100", "-20240131", "-202401311530", "0000000000", "12345678901234", "12345678901234567890",
     "1.7e9", "1_706_702_400", "１７０６７０２４００", "NaN",
     "31.01.2024", "1/31/2024"],
)  # fmt: skip
def test_a_date_of_digits_that_could_mean_several_things_is_refused(tmp_path: Path, cell: str) -> None:
    ((number, fault),) = loaded(write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n"))
    assert number == 2
    assert "column timestamp: " in str(fault)
    assert cell in str(fault)
    assert "2011-07-01T13:00:00Z" in str(fault) or ":seconds" in str(fault)


@pytest.mark.parametrize(
    "cell",
    ["20241331", "20240230", "20240100", "202401311560", "202401312401", "202413011200", "20240131240001",
     "20240131125960", "20240131235961", "20240131240000123", "20240132120000123", "20241331120000123"],
)  # fmt: skip
def test_a_date_of_digits_that_does_not_exist_is_refused_with_the_cell(tmp_path: Path, cell: str) -> None:
    ((_, fault),) = loaded(write(tmp_path / "x.csv", f"type,timestamp\na,{cell}\n"))
    assert f"column timestamp: {cell!r} is no date: " in str(fault)


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
