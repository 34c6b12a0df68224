"""Read the items of a JSON list from a stream of text, such as `mongoexport --jsonArray` writes, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ingest.exceptions import LoadError
from ingest.wire.json_value import BLANKS, end_of_value
from ingest.wire.text_encoding import BYTE_ORDER_MARK

PIECE_CHARS = 2**20
MAX_ITEM_CHARS = 2**25  # an event has at most 1 MiB, which takes up to six times as many characters in JSON


def items(file: TextIO) -> Iterator[str]:
    """Yield the text of each item. Raise `LoadError` where the text is no list any more, or ends inside it."""
    text, number = file.read(PIECE_CHARS).lstrip(BYTE_ORDER_MARK + BLANKS)[1:].lstrip(BLANKS), 0
    if not text.startswith("]"):
        while True:
            number += 1
            text, end = _with_whole_item(file, text, number)
            yield text[:end]
            text = text[end:].lstrip(BLANKS)
            mark, text = text[0], text[1:]
            if mark == "]":
                break
            if mark != ",":
                raise LoadError(f"item {number} of the list is followed by {mark!r}; must be a comma or the end")
    else:
        text = text[1:]
    if (text + file.read(PIECE_CHARS)).strip(BLANKS):
        raise LoadError(f"text follows the end of the list, after item {number}: split the file there")


def _with_whole_item(file: TextIO, text: str, number: int) -> tuple[str, int]:
    """Return the text from the start of an item on, read so far that something follows the item, and its end."""
    wanted = PIECE_CHARS
    while True:
        text = text.lstrip(BLANKS)
        end = end_of_value(text, 0) if text else None
        if end is not None and text[end:].lstrip(BLANKS):
            return text, end
        if len(text) > MAX_ITEM_CHARS:
            raise LoadError(f"item {number} of the list is no JSON, or longer than {MAX_ITEM_CHARS} characters")
        piece = file.read(wanted)
        if not piece:
            raise LoadError(f"the list is not JSON at item {number}, or the file ends inside it: {text[:60]!r}")
        text, wanted = text + piece, 2 * wanted
