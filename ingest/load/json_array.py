"""Read the items of a JSON list from a stream of text, such as `mongoexport --jsonArray` writes, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ingest.exceptions import LoadError
from ingest.wire.json_value import BLANKS, end_of_value
from ingest.wire.text_encoding import BYTE_ORDER_MARK

PIECE_CHARS = 2**20
MAX_ITEM_CHARS = 2**25  # an event has at most 1 MiB, which takes up to six times as many characters in JSON
_BLANKS: Final = re.compile(f"[{BLANKS}]*")
_AFTER_ITEM: Final = f",]{BLANKS}"
_LONGEST_LINK: Final = 2  # of the parts of a number: `e+`
_BEFORE_LIST: Final = re.compile(f"[{BYTE_ORDER_MARK}{BLANKS}]*")


def items(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the text of each item of a text in pieces.

    Raise `LoadError` where the text is no list any more, or ends inside it. What `pieces` raises is raised after the
    items before it.
    """
    file = _Reader(pieces)
    file.next_mark(_BEFORE_LIST)
    file.at += 1
    number = 0
    mark = file.next_mark()
    while mark != "]":
        number += 1
        yield _whole_item(file, number)
        mark = file.next_mark()
        if not mark:
            raise LoadError(f"the list is not closed: the file ends after item {number}")
        if mark == ",":
            file.at += 1
        elif mark != "]":
            raise LoadError(f"item {number} of the list is followed by {mark!r}; must be a comma or the end")
    file.at += 1
    if file.next_mark():
        raise LoadError(f"text follows the end of the list, after item {number}: split the file there")


class _Reader:
    """Text that is read as far as it is needed. What stands before `at` was used."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._damage: Exception | None = None
        self.text = ""
        self.at = 0

    def next_mark(self, blanks: re.Pattern[str] = _BLANKS) -> str:
        """Go to the next character that is not blank, and return it; nothing at the end."""
        while True:
            self.at = self._after(blanks, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.read(1):
                return ""

    def is_end(self, end: int) -> bool:
        """Return whether the value that ends there cannot go on in text that was not read yet.

        A number or a word that nothing follows can, and so can `1` if `.` or `e+` follows.
        """
        if self.text[end - 1] in '"]}':
            return True
        followed = self._after(_BLANKS, end) < len(self.text)
        return followed and (self.text[end] in _AFTER_ITEM or len(self.text) - end > _LONGEST_LINK)

    def read(self, wanted: int) -> bool:
        """Read at least `wanted` characters more, unless the text ends before. Return False at the end.

        What the source raises is raised by the call after the one that read the last text.
        """
        found: list[str] = []
        while wanted > 0 and self._damage is None:
            try:
                piece = next(self._pieces, None)
            except LoadError as error:
                self._damage = error
                break
            if piece is None:
                break
            found.append(piece)
            wanted -= len(piece)
        if not found and self._damage is not None:
            raise self._damage
        self.text, self.at = "".join([self.text[self.at :], *found]), 0
        return bool(found)

    def _after(self, blanks: re.Pattern[str], start: int) -> int:
        match = blanks.match(self.text, start)
        assert match is not None
        return match.end()


def _whole_item(file: _Reader, number: int) -> str:
    """Return the item that starts at `file.at`, read so far that it is whole, and go to its end."""
    wanted = PIECE_CHARS
    while True:
        file.next_mark()
        end = end_of_value(file.text, file.at) if file.at < len(file.text) else None
        if end is not None and file.is_end(end):
            start, file.at = file.at, end
            return file.text[start:end]
        if len(file.text) - file.at > MAX_ITEM_CHARS:
            raise LoadError(f"item {number} of the list is no JSON, or longer than {MAX_ITEM_CHARS} characters")
        if not file.read(wanted):
            shown = file.text[file.at : file.at + 60]
            raise LoadError(f"the list is not JSON at item {number}, or the file ends inside it: {shown!r}")
        wanted *= 2
