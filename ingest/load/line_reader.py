"""Read the lines of a file with their numbers, each as soon as it is there; a line ends with LF, CR LF or CR alone."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ingest.wire.text_encoding import decoding_errors

MAX_LINE = 16 * 2**20  # characters of a CSV line, bytes of a JSON line: as long as a message
PIECE_BYTES = 2**16

Text = TypeVar("Text", str, bytes)
Numbered = tuple[int, Text | None]


def bounded_lines(read_line: Callable[[int], str]) -> Iterator[Numbered[str]]:
    """Yield the lines of a text with their numbers; None for one that is longer than `MAX_LINE`.

    The text is opened with `newline=""`, so that it reads the three line ends and keeps them.
    """
    number = 0
    while line := read_line(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE:
            yield number, line
            continue
        end = line[-1:]
        while end and end not in ("\n", "\r"):
            end = read_line(MAX_LINE)[-1:]
        yield number, None


def text_pieces(file: io.BufferedReader[Any], encoding: str) -> Iterator[str]:
    """Yield the text of a file in pieces, each as soon as it is there; what is no text becomes surrogates."""
    decoder = codecs.getincrementaldecoder(encoding)(decoding_errors(encoding))
    while piece := file.read1(PIECE_BYTES):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def byte_lines(file: io.BufferedReader[Any]) -> Iterator[Numbered[bytes]]:
    """Yield the lines of a binary file with their numbers; None for one that is longer than `MAX_LINE`.

    A line that ends with CR is passed on without waiting for what follows, and an LF that follows is skipped.
    """
    number, held, held_bytes, after_return = 0, list[bytes](), 0, False
    while piece := file.read1(PIECE_BYTES):
        if after_return and piece.startswith(b"\n"):
            piece = piece[1:]
        after_return = piece.endswith(b"\r")
        for part in piece.splitlines(keepends=True):
            held_bytes += len(part)
            if held_bytes <= MAX_LINE:
                held.append(part)
            else:
                held.clear()
            if part.endswith((b"\n", b"\r")):
                number += 1
                yield number, b"".join(held) if held else None
                held, held_bytes = [], 0
    if held_bytes:
        yield number + 1, b"".join(held) if held else None
