"""Split the text of a CSV file into rows (RFC 4180), so that a bad row does not take its neighbours along."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ingest.exceptions import LoadError
from ingest.load.line_reader import MAX_LINE, Numbered, bounded_lines
from ingest.wire.text_encoding import BYTE_ORDER_MARK

DELIMITERS = (",", ";", "\t", "|")
MAX_QUOTED_CHARS = 2**21  # of a cell that spans lines, and of a header; an event has at most 1 MiB
MAX_LOOK_AHEAD_CHARS = MAX_LINE  # within which a quote must be closed
_SEPARATOR_LINE = re.compile(r"sep=(.)[\r\n]*")  # written by Excel before the header
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_ENDS = "\r\n"
_OPEN = "a quote is opened that is not closed, or not before a delimiter"


@dataclass(frozen=True, slots=True)
class Row:
    """A row with the number of its last line; with a `fault`, it is none, and its lines are refused."""

    number: int
    cells: list[str] = field(default_factory=list)
    fault: str = ""


def read_delimiter(text: str) -> str:
    """Return the delimiter that an option names: one character, or `tab`. Raise `LoadError`."""
    found = _NAMES.get(text.lower(), text)
    if len(found) != 1 or found in '"\r\n':
        raise LoadError(f"--delimiter {text!r}: use one character, such as ';', or tab")
    return found


@dataclass(slots=True)
class _LookAhead:
    """The lines that were taken from an open quote on, as one text, in which many short ones need little memory."""

    first: int  # the number of the line before them
    last: int
    text: io.StringIO = field(default_factory=lambda: io.StringIO(newline=""))
    too_long: int | None = None  # the number of the last one if it was too long to be read

    def add(self, number: int, line: str | None) -> None:
        self.last = number
        if line is None:
            self.too_long = number
        else:
            self.text.write(line)

    def lines(self) -> Iterator[Numbered[str]]:
        """Yield the lines again."""
        self.text.seek(0)
        for number, line in bounded_lines(self.text.readline):
            yield self.first + number, line
        if self.too_long is not None:
            yield self.too_long, None


class CsvTable:
    """The header and the rows of a CSV file. Iterate once."""

    def __init__(self, lines: Iterator[Numbered[str]], delimiter: str = "", wanted: Callable[[list[str]], bool] = bool):
        """Read the header. Without a delimiter it is the one of `DELIMITERS` whose header has most names.

        Those with which the header is `wanted` are preferred. Raise `LoadError`.
        """
        self._source = lines
        self._again: list[Iterator[Numbered[str]]] = []  # lines to be read once more, the next ones last
        self._open_until = 0  # the number of the line up to which a quote was followed that is not closed
        self._damage: Exception | None = None  # raised after the rows that stand before it
        csv.field_size_limit(MAX_LINE)
        first = self._header_lines()
        if first and (named := _SEPARATOR_LINE.fullmatch(first[0])):
            delimiter, first = delimiter or named[1], self._header_lines()
        headers = {mark: _all_cells(first, mark) for mark in ([delimiter] if delimiter else DELIMITERS)}
        fitting = {mark: cells for mark, cells in headers.items() if isinstance(cells, list)}
        if first and not fitting:
            raise LoadError(f"line 1, the header, cannot be read: {next(iter(headers.values()))}")
        wanted_ones = {mark: cells for mark, cells in fitting.items() if wanted(cells)} or fitting
        self.delimiter = max(wanted_ones, key=lambda mark: len(wanted_ones[mark]), default=DELIMITERS[0])
        self.header: list[str] = wanted_ones.get(self.delimiter, [])
        if self._damage is not None and not self.header:
            raise self._damage

    def __iter__(self) -> Iterator[Row]:
        while (taken := self._take()) is not None:
            number, line = taken
            if line is None:
                yield Row(number, fault=f"the line has more than {MAX_LINE} characters")
                continue
            line = line.lstrip(BYTE_ORDER_MARK)  # that of a file which was appended
            if line.strip("\r\n"):
                yield self._row(number, line)
        if self._damage is not None:
            raise self._damage

    def _take(self) -> Numbered[str] | None:
        while self._again:
            if (again := next(self._again[-1], None)) is not None:
                return again
            self._again.pop()
        try:
            return next(self._source, None)
        except LoadError as error:
            self._damage = error
            return None

    def _header_lines(self) -> list[str]:
        found: list[str] = []
        chars, quotes = 0, 0
        while (taken := self._take()) is not None and taken[1] is not None:
            if found or taken[1].strip("\r\n"):
                found.append(taken[1] if found else taken[1].lstrip(BYTE_ORDER_MARK))
                chars, quotes = chars + len(found[-1]), quotes + found[-1].count('"')
                if quotes % 2 == 0 or chars > MAX_QUOTED_CHARS:
                    break
        return found

    def _row(self, number: int, line: str) -> Row:
        if '"' not in line:
            return self._checked(number, line.rstrip("\r\n").split(self.delimiter))
        cells = _cells([line], self.delimiter)
        if cells is not _OPEN:
            return self._checked(number, cells) if isinstance(cells, list) else Row(number, fault=cells)
        return self._long_row(number, line)

    def _long_row(self, number: int, line: str) -> Row:
        """Return the row of several lines that starts here, or why it is none; without one, refuse this line alone.

        The lines after it are read once, and once more where a row starts that the look ahead did not begin with: at
        the end of this line, both are inside quotes, and so find the same end.
        """
        if number < self._open_until:
            return Row(number, fault=_OPEN)
        ahead = _LookAhead(number, number)
        cells = _cells(itertools.chain([line], self._texts_ahead(len(line), ahead)), self.delimiter)
        if isinstance(cells, list):
            row = self._checked(ahead.last, cells)
            if (longest := max(map(len, cells))) > MAX_QUOTED_CHARS:
                row = Row(ahead.last, fault=f"a cell has {longest} characters, more than {MAX_QUOTED_CHARS}")
            return replace(row, fault=f"from line {number} on: {row.fault}") if row.fault else row
        self._open_until = ahead.last
        self._again.append(ahead.lines())
        return Row(number, fault=_OPEN)

    def _texts_ahead(self, chars: int, ahead: _LookAhead) -> Iterator[str]:
        """Yield the following lines, within `MAX_LOOK_AHEAD_CHARS`, and note in `ahead` what was taken."""
        while chars <= MAX_LOOK_AHEAD_CHARS and (taken := self._take()) is not None:
            ahead.add(*taken)
            if taken[1] is None:
                return
            chars += len(taken[1])
            yield taken[1]

    def _checked(self, number: int, cells: list[str]) -> Row:
        if len(cells) != len(self.header):
            return Row(number, fault=f"{len(cells)} cells; the header has {len(self.header)}")
        if len(cells) > 1 and not any(cells):
            return Row(number, fault="all cells are empty")
        if cells == self.header:
            return Row(number, fault="the header once more, as if files had been put together")
        return Row(number, cells)


def _cells(lines: Iterable[str], delimiter: str) -> list[str] | str:
    """Return the cells of the first row, or why there is none; `_OPEN` if more lines could make it one.

    No line is taken after the one with which the row ends.
    """
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        return _OPEN if "unexpected end of data" in str(error) else f"not CSV: {error}"


def _all_cells(lines: Iterable[str], delimiter: str) -> list[str] | str:
    """Return the cells of the row that all lines together are, or why they are none."""
    left = iter(lines)
    cells = _cells(left, delimiter)
    return cells if next(left, None) is None else "several rows in one, with a quote that is not closed"
