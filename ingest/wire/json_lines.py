"""Split lines of text into JSON values. Sockets, HTTP, files and zsend use it, so that all find the same ones.

A value begins with a line and ends with one (JSON Lines, and objects that span lines). JSON has no line breaks inside
texts (RFC 8259 section 7), so each line tells by how much it changes the depth of nesting, whatever stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..turn import NO_PAUSE, Turn
from .event import MAX_MESSAGE_BYTES

MAX_VALUE_LINES = 300_000  # of one value; an event of 1 MiB with each of its numbers on a line has fewer
BROKEN_OFF_OBJECTS = 3  # so many whole objects in a row, without commas, stand in no JSON value, even with one mistake
_MOST_TEXTS = 100_000  # in a line that opens a value
MARK = b"\xef\xbb\xbf"
_INSIDE = frozenset({b"{", b"[", b",", b":"})
_MARK_AND_BLANKS = MARK + b" \t"
_LIST_START = re.compile(rb"\[\s*(?:[\[{\"]|$|(?:-?\d[\d.eE+-]*+|true|false|null)\s*(?:,|$))")
# A text that is not closed lasts until the end of its line.
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# A run of blank lines, or another line; both with their ends.
_BLANKS, _END = rb"[ \t\v\f]*+(?:\xef\xbb\xbf)?+[ \t\v\f]*+", rb"(?:\r\n?+|\n)"
_LINES = re.compile(rb"(?:%s%s){1,4096}+|[^\r\n]++%s?+" % (_BLANKS, _END, _END))
_BLANK = re.compile(rb"(?:%s%s)*+%s" % (_BLANKS, _END, _BLANKS))

_Line = tuple[int, bytes | None]


class _Decoded(Protocol):
    fault: Any


Decoded = TypeVar("Decoded", bound=_Decoded)


class Span(NamedTuple, Generic[Decoded]):
    """Lines that should be one JSON value. `value` is None for a line that was too long to be read."""

    first: int  # the number of the first line
    last: int
    value: Decoded | None


def split_lines(
    lines: Iterable[_Line], decode: Callable[[bytes], Decoded], turn: Turn = NO_PAUSE
) -> Iterator[Span[Decoded]]:
    """Yield the values of numbered lines, each as soon as its last line is there; none for blank lines.

    A line that `decode` reads is a value. Another one that opens more objects or lists than it closes begins a value
    which ends where they are closed, be it JSON or not. If they never are (within `MAX_MESSAGE_BYTES` and
    `MAX_VALUE_LINES`), or `BROKEN_OFF_OBJECTS` whole objects follow each other inside it, it was broken off: it ends
    before the next whole object that is indented no further than it is. None, for a line that is too long, ends a value
    too. What `lines` raises is raised after the values of the lines before. The time grows with the length of lines.
    """
    held: _HeldLines | None = None
    damage: list[Exception] = []
    for number, line in _until_damage(lines, damage):
        if held is None and line is not None and not is_blank(line):
            goes_on = _may_go_on(line)
            if not (goes_on and _opens(line)):
                found = decode(line.rstrip(b"\r\n"))
                if found.fault is None or goes_on or not _opens(line):
                    yield Span(number, number, found)
                    continue
            held = _HeldLines(_indent(line))
        if held is not None and (line is None or held.add(number, line)):
            yield from held.values(decode, turn)
            held = None
        if line is None:
            yield Span(number, number, None)
    if held is not None:
        yield from held.values(decode, turn)
    if damage:
        raise damage[0]


def _until_damage(lines: Iterable[_Line], damage: list[Exception]) -> Iterator[_Line]:
    try:
        yield from lines
    except Exception as error:  # noqa: BLE001 - whatever the source raises is raised after the lines before it
        damage.append(error)


@dataclass(slots=True)
class _HeldLines:
    """Lines from one on that opens a value, until it is known where the value ends."""

    indent: int  # of the first line
    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)  # after each line
    length: int = 0
    filled: int = -1  # index of the last line that is not blank
    # Objects that may be events of their own: those that are open as (index, depth before, filled line before), and by
    # depth the last line of those that are whole and how many of them follow each other.
    open: list[tuple[int, int, int]] = field(default_factory=list)
    whole: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, number: int, line: bytes) -> bool:
        """Take a line. Return whether the value ends here, or was broken off before."""
        index, before = len(self.lines), self.depths[-1] if self.depths else 0
        depth = before + depth_change(line)
        self.lines.append(line)
        self.numbers.append(number)
        self.depths.append(depth)
        self.length += len(line)
        if depth <= 0 or self.length > MAX_MESSAGE_BYTES or index >= MAX_VALUE_LINES:
            return True
        if is_blank(line):
            return False
        previous, self.filled = self.filled, index
        if index and _may_be_event(line, self.indent):
            self.open.append((index, before, previous))
        return self._is_broken_off(index, depth)

    def _is_broken_off(self, index: int, depth: int) -> bool:
        while self.open and self.open[-1][1] > depth:
            self.open.pop()
        if not self.open or self.open[-1][1] != depth:
            return False
        _, _, previous = self.open.pop()
        if not _ends_object(self.lines[index]):
            return False
        last, count = self.whole.get(depth, (-1, 0))
        count = count + 1 if last == previous else 1
        self.whole[depth] = index, count
        return count >= BROKEN_OFF_OBJECTS

    def values(self, decode: Callable[[bytes], Decoded], turn: Turn) -> Iterator[Span[Decoded]]:
        """Yield the values of the lines, of which no more will come."""
        ends, start = self._ends(turn), 0
        while start < len(self.lines):
            turn()
            if is_blank(self.lines[start]):
                start += 1
                continue
            end = ends.get(start)
            if end is None and not self._opens(start):
                end = start
            after = end + 1 if end is not None else self._next_whole(start, ends, turn)
            raw = b"".join(self.lines[start:after])
            yield Span(self.numbers[start], self.numbers[after - 1], decode(raw.rstrip(b"\r\n")))
            start = after

    def _opens(self, index: int) -> bool:
        """Return whether an object or list begins with this line that does not end in it; see `depth_change`."""
        return self.depths[index] > (self.depths[index - 1] if index else 0) and _begins(self.lines[index])

    def _ends(self, turn: Turn) -> dict[int, int]:
        """Return, by the index of each line, that of the first one after which nothing is open that it opened."""
        ends: dict[int, int] = {}
        waiting: list[tuple[int, int]] = []  # index and the depth before it, which rises
        before = 0
        for index, depth in turn.between(enumerate(self.depths)):
            waiting.append((index, before))
            while waiting and waiting[-1][1] >= depth:
                ends[waiting.pop()[0]] = index
            before = depth
        return ends

    def _next_whole(self, start: int, ends: dict[int, int], turn: Turn) -> int:
        indent = _indent(self.lines[start])
        for index in turn.between(range(start + 1, len(self.lines))):
            end = ends.get(index)
            if end is not None and _may_be_event(self.lines[index], indent) and _ends_object(self.lines[end]):
                return index
        return len(self.lines)


def lines_of(text: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text from `start` on, each with its place; blank ones that follow one another as one."""
    for found in _LINES.finditer(text, start):
        yield found.start(), found[0]


def depth_change(line: bytes) -> int:
    """Return by how many objects and lists the end of a line of JSON is nested deeper than its start.

    Of a line with more than `_MOST_TEXTS` texts it is 0, so that it opens nothing: values on several lines have fewer.
    """
    opened, closed = line.count(b"{") + line.count(b"["), line.count(b"}") + line.count(b"]")
    if (opened or closed) and b'"' in line:
        line, texts = _TEXTS.subn(b"", line.rstrip(b"\r\n"), _MOST_TEXTS + 1)
        if texts > _MOST_TEXTS:
            return 0
        opened, closed = line.count(b"{") + line.count(b"["), line.count(b"}") + line.count(b"]")
    return opened - closed


def starts_list(line: bytes) -> bool:
    """Return whether a list of JSON with items starts here, and not a line of a log such as `[INFO] start`."""
    return _LIST_START.match(line.lstrip(_MARK_AND_BLANKS)) is not None


def is_blank(line: bytes) -> bool:
    """Return whether a line holds nothing but blanks, and a byte order mark perhaps."""
    rest = line.strip()
    return not rest or (rest[:1] == MARK[:1] and _BLANK.fullmatch(line) is not None)


def _opens(line: bytes) -> bool:
    """Return whether an object or list begins here that does not end in this line; lines of a log open none."""
    return _begins(line) and depth_change(line) > 0


def _begins(line: bytes) -> bool:
    return line.lstrip(_MARK_AND_BLANKS)[:1] == b"{" or starts_list(line)


def _may_go_on(line: bytes) -> bool:
    """Return whether a line ends as no value of JSON does."""
    return line.rstrip()[-1:] in _INSIDE


def _indent(line: bytes) -> int:
    blanks = line[: len(line) - len(line.lstrip(_MARK_AND_BLANKS))]
    return blanks.count(b" ") + blanks.count(b"\t")


def _may_be_event(line: bytes, indent: int) -> bool:
    """Return whether an object starts with this line that is indented by no more than `indent`."""
    return line.lstrip(_MARK_AND_BLANKS)[:1] == b"{" and _indent(line) <= indent


def _ends_object(line: bytes) -> bool:
    return line.rstrip()[-1:] == b"}"
