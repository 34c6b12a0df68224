"""CSV: delimiters, long cells, quotes, encodings, and bad rows beside good ones."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.exceptions import LoadError
from ingest.load import csv_rows
from ingest.load.csv_rows import DELIMITERS, CsvTable, read_delimiter
from ingest.load.line_reader import MAX_LINE, Numbered, bounded_lines
from tests.support.ingest.csv_file import loaded, write


def table(text: str, delimiter: str = "") -> CsvTable:
    return CsvTable(bounded_lines(io.StringIO(text, newline="").readline), delimiter)


def rows(text: str) -> list[tuple[int, Any]]:
    """Return the number of each row with its cells, or with the start of its fault."""
    return [(row.number, row.fault[:20] if row.fault else row.cells) for row in table(text)]


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
        ('6",x,"b\nc,",d\ne,f\n', [(3, "from line 2 on: 4 ce"), (4, ["e", "f"])]),
        ('6",x,"b\n",c"\n', [(3, "from line 2 on: 4 ce")]),
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


@pytest.mark.parametrize(
    ("row", "last_line", "fault"),
    [
        ('"hello\nfoo,7\nbar",1,2\n', 5, "3 cells; the header has 2"),
        ('"hello\nfoo,7\nbar"\n', 5, "1 cells; the header has 2"),
        ('1,"hello\nfoo,7\n\n""x"",5\n6,7","8\n9,10"\n', 8, "3 cells; the header has 2"),
        ('"\n","\n",""\n', 5, "3 cells; the header has 2"),
        ('"x\n' + "foo,7\n" * 400_000 + '",1\n', 400_004, "a cell has 2400002 characters, more than 2097152"),
    ],
)
@pytest.mark.timeout(20)
def test_a_row_of_several_lines_is_refused_as_a_whole(row: str, last_line: int, fault: str) -> None:
    found = list(table(f"a,b\nok,1\n{row}last,3\n"))
    assert [(each.number, each.cells, each.fault) for each in found] == [
        (2, ["ok", "1"], ""), (last_line, [], f"from line 3 on: {fault}"), (last_line + 1, ["last", "3"], "")
    ]  # fmt: skip


def test_an_open_quote_is_followed_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_LOOK_AHEAD_CHARS", 100)
    taken = 0

    def lines() -> Any:
        nonlocal taken
        for number, line in enumerate(["a,b\n", 'x,"y\n', *["1,2\n"] * 500, '3,4",5\n'], 1):
            taken = number
            yield number, line

    found = iter(CsvTable(lines()))
    assert next(found).fault.startswith("a quote is opened")
    assert taken < 30
    assert [row.fault for row in found] == [""] * 500 + ["3 cells; the header has 2"]


def test_a_line_that_is_too_long_ends_the_search_for_the_end_of_a_quote() -> None:
    lines: list[Numbered[str]] = [(1, "a,b\n"), (2, 'x,"y\r'), (3, "1,2\r\n"), (4, None), (5, "3,4")]
    found = [(row.number, row.cells or row.fault[:10]) for row in CsvTable(iter(lines))]
    assert found == [(2, "a quote is"), (3, ["1", "2"]), (4, "the line h"), (5, ["3", "4"])]


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
