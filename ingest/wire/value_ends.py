"""Tell where the JSON values of a text begin and end without decoding any, as `split_lines` does, only faster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..turn import NO_PAUSE, Turn
from .json_lines import MARK, is_blank, lines_of, split_lines

# A line that may open a value of several lines: it begins one that is not closed in it, as far as this can tell.
_PLAIN = rb'[^"{}\[\]\r\n]++|"(?:[^"\\\r\n]++|\\[^\r\n])*+"'
_INNER = rb"(?:%s|[{\[](?:%s|[{\[](?:%s)*+[}\]])*+[}\]])*+" % (_PLAIN, _PLAIN, _PLAIN)
_MAY_OPEN = re.compile(rb"(?<![^\r\n])[\xef\xbb\xbf \t]*+[{\[](?!%s[}\]][ \t]*+(?:[\r\n]|\Z))" % _INNER)
_LINE_END = re.compile(rb"\r\n|[\r\n]")
_PIECE_BYTES = 2**16  # of lines that are told apart in one go


def value_ends(text: bytes, most_lines: int, turn: Turn = NO_PAUSE) -> Iterator[int]:
    """Yield where each value in the first `most_lines` lines of a text ends, with its line and blank lines after it.

    None is decoded. A value that may go on after those lines is left out.
    """
    starts = _value_starts(text, most_lines, turn)
    next(starts)
    return starts


def _value_starts(text: bytes, most_lines: int, turn: Turn) -> Iterator[int]:
    """Yield where each value starts, and where the last one ends."""
    place = 0
    while place < len(text):
        turn()
        end = _piece_end(text, place)
        if _MAY_OPEN.search(text, place, end) is None:  # each line is a value: these need no look one by one
            starts = _filled_lines(text[place:end], place)
            yield from starts[:most_lines]
            if len(starts) > most_lines:
                yield starts[most_lines]
                return
            most_lines -= len(starts)
            place = end
            continue
        lines = _FirstLines(text, place, most_lines)
        for start, last, _ in split_lines(turn.between(lines), lambda _: _UNDECODED, turn):
            if lines.cut:
                yield start
                return
            yield start
            if lines.end >= end and last == lines.start:  # nothing that was read belongs to a later value
                end = _piece_end(text, lines.end)
                if _MAY_OPEN.search(text, lines.end, end) is None:
                    break
        place = lines.end
        if lines.cut:
            break
        most_lines -= lines.count
    yield place


def _piece_end(text: bytes, place: int) -> int:
    found = _LINE_END.search(text, place + _PIECE_BYTES)
    return found.end() if found else len(text)


def _filled_lines(piece: bytes, place: int) -> list[int]:
    """Return where each line of a piece that is not blank starts in the text, in which the piece stands at `place`."""
    lines = piece.splitlines(keepends=True)
    starts = accumulate(map(len, lines), initial=place)
    if MARK in piece:
        return [place + start for start, line in lines_of(piece) if not is_blank(line)]
    return [start for line, start in zip(lines, starts, strict=False) if line.strip()]


@dataclass(slots=True)
class _FirstLines:
    """The first `most` lines of a text from `end` on, which is then the end of those that were read."""

    text: bytes
    end: int
    most: int
    start: int = 0  # of the last line that was read
    count: int = 0
    cut: bool = False  # whether there are more lines

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for start, line in lines_of(self.text, self.end):
            if self.count == self.most:
                self.cut = True
                return
            self.count += 1
            self.start, self.end = start, start + len(line)
            yield start, line


@dataclass(slots=True)
class _Undecoded:
    fault: Any = "not decoded"


_UNDECODED = _Undecoded()
