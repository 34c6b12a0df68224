"""Read JSON objects from a stream as they come, and check each as the ingester will, before it is sent."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ingest.exceptions import LoadError
from ingest.transport.notice import NOTICES
from ingest.wire import json_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.event import MAX_MESSAGE_BYTES
from ingest.wire.json_value import depth_change, loads
from ingest.wire.text_encoding import BYTE_ORDER_MARK, UTF_8, encoding_of

_MARK = BYTE_ORDER_MARK.encode()


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """An object of a stream, or why the ingester would refuse it."""

    number: int  # of the line on which it starts
    text: bytes  # JSON in UTF-8
    fault: str = ""

    def to_bson(self) -> bytes:
        """Return the object as the BSON that the ingester's BSON receiver reads, with its `$command`."""
        return json_reader.encode_event(loads(self.text))


def checked_messages(file: io.BufferedReader) -> Iterator[CheckedMessage]:
    """Yield the objects of a stream, each as soon as its last line is there. Raise `LoadError`.

    It is raised for text that is not in the encoding of its byte order mark.
    """
    for start, _, text in joined_lines(enumerate(_lines(file), 1)):
        yield _checked(start, text or b"")


def joined_lines(lines: Iterable[tuple[int, bytes | None]]) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield what should be one JSON value each, with the numbers of its first and last line, without blank lines.

    An object may span lines, as far as those after the first are indented or no object by themselves. If it does not
    end before another one starts, its lines are yielded as they are together. None, for a line that is too long, is
    passed on by itself.
    """
    start, last, text, depth = 0, 0, b"", 0
    for number, line in lines:
        if text and (line is None or _is_object(line) or len(text) > MAX_MESSAGE_BYTES):
            yield start, last, text
            text, depth = b"", 0
        if line is None:
            yield number, number, None
        elif text or line.strip():
            start, last = start if text else number, number
            text += line
            depth += depth_change(line)
            if depth <= 0:
                yield start, last, text
                text, depth = b"", 0
    if text:
        yield start, last, text


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines in UTF-8 without their byte order marks, each as soon as it is there."""
    encoding = encoding_of(file.peek(4)[:4])
    if encoding == UTF_8:
        for line in file:
            while line.startswith(_MARK):
                line = line.removeprefix(_MARK)
            yield line
        return
    with io.TextIOWrapper(file, encoding=encoding, newline="\n") as text:
        try:
            yield from (line.lstrip(BYTE_ORDER_MARK).encode() for line in text)
        except UnicodeDecodeError as error:
            raise LoadError(f"not text in {encoding}, as its byte order mark says: {error.reason}") from None


def _is_object(line: bytes) -> bool:
    """Return whether a line that is not indented is a whole JSON object: what came before it was broken off."""
    return line.startswith(b"{") and depth_change(line) == 0 and json_reader.decoded(0, line).fault is None


def _checked(number: int, text: bytes) -> CheckedMessage:
    text = text.strip()
    given = json_reader.decoded(0, text)
    if isinstance(given.value, dict) and given.value.get("$command") in NOTICES:
        return CheckedMessage(number, text)
    batch = ReceivedBatch("zsend")
    json_reader.read_message(text, batch, time.time_ns() // 1_000_000)
    if not batch.refusals:
        return CheckedMessage(number, text)
    refusal = batch.refusals[0]
    if refusal.code == json_reader.NOT_JSON:
        return CheckedMessage(number, text, f"line {number} is not a JSON document: {refusal.message}")
    if refusal.code == "not_a_document":
        return CheckedMessage(number, text, f"line {number} is {refusal.message}")
    return CheckedMessage(number, text, f"line {number}: {refusal.code}: {refusal.message}")
