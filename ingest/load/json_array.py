"""Read the items of a JSON list from a stream of text, such as `mongoexport --jsonArray` writes, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ingest.exceptions import LoadError
from ingest.wire.json_value import BLANKS, end_of_value
from ingest.wire.text_encoding import BYTE_ORDER_MARK

PIECE_CHARS = 2**20
MAX_ITEM_CHARS = 2**25  # an event has at most 1 MiB, which takes up to six times as many characters in JSON


def items(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the text of each item of a text in pieces.

    Raise `LoadError` where the text is no list any more, or ends inside it. What `pieces` raises is raised after the
    items before it.
    """
    file = _Reader(pieces)
    text, number = file.read(PIECE_CHARS).lstrip(BYTE_ORDER_MARK + BLANKS)[1:].lstrip(BLANKS), 0
    if not text.startswith("]"):
        while True:
            number += 1
            text, end = _with_whole_item(file, text, number)
            yield text[:end]
            text = text[end:].lstrip(BLANKS)
            while not text:
                if not (text := file.read(1)):
                    raise LoadError(f"the list is not closed: the file ends after item {number}")
                text = text.lstrip(BLANKS)
            mark, text = text[0], text[1:]
            if mark == "]":
                break
            if mark != ",":
                raise LoadError(f"item {number} of the list is followed by {mark!r}; must be a comma or the end")
    else:
        text = text[1:]
    if (text + file.read(PIECE_CHARS)).strip(BLANKS):
        raise LoadError(f"text follows the end of the list, after item {number}: split the file there")


class _Reader:
    """Text that is read as far as it is needed."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self._damage: Exception | None = None

    def read(self, wanted: int) -> str:
        """Return the text that follows, at least `wanted` characters unless it ends before; nothing at the end.

        What the source raises is raised by the call after the one that returned the last text.
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
        return "".join(found)


def _with_whole_item(file: _Reader, text: str, number: int) -> tuple[str, int]:
    """Return the text from the start of an item on, read so far that the item is whole, and its end.

    A number, a word or a text that nothing follows could go on; an object or list could not.
    """
    wanted = PIECE_CHARS
    while True:
        text = text.lstrip(BLANKS)
        end = end_of_value(text, 0) if text else None
        if end is not None and (text[end - 1] in "]}" or text[end:].lstrip(BLANKS)):
            return text, end
        if len(text) > MAX_ITEM_CHARS:
            raise LoadError(f"item {number} of the list is no JSON, or longer than {MAX_ITEM_CHARS} characters")
        piece = file.read(wanted)
        if not piece:
            raise LoadError(f"the list is not JSON at item {number}, or the file ends inside it: {text[:60]!r}")
        text, wanted = text + piece, 2 * wanted
