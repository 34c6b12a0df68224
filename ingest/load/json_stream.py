"""Read JSON objects from a stream as they come, and check each as the ingester will, before it is sent."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingest.exceptions import LoadError
from ingest.load.line_reader import MAX_LINE, Numbered, bounded_lines, byte_lines
from ingest.transport.notice import NOTICES
from ingest.wire import json_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.command_check import command_fault
from ingest.wire.event import Fault
from ingest.wire.json_lines import split_lines
from ingest.wire.json_value import loads
from ingest.wire.text_encoding import (
    TAR_HEADER_BYTES,
    UTF_8,
    decoding_errors,
    encoding_of,
    escaped_bytes,
    is_binary,
    packing_of,
)

_START_BYTES = 4


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """An object of a stream, or why the ingester would refuse it."""

    number: int  # of the line on which it starts
    text: bytes  # JSON in UTF-8
    fault: str = ""

    def to_bson(self) -> bytes:
        """Return the object as the BSON that the ingester's BSON receiver reads, with its `$command`."""
        return json_reader.encode_event(loads(self.text))


def checked_messages(file: io.BufferedReader[Any]) -> Iterator[CheckedMessage]:
    """Yield the objects of a stream, each as soon as its last line is there. Raise `LoadError`.

    It is raised for a packed stream.
    """
    start = file.peek(TAR_HEADER_BYTES)[:TAR_HEADER_BYTES]
    if is_binary(start) and (packing := packing_of(start)):
        raise LoadError(f"the input is packed with {packing[0]}: unpack it first, with `{packing[1]}`")
    for span in split_lines(json_lines(file), lambda raw: json_reader.decoded(0, raw)):
        yield _checked(span.first, span.value)


def json_lines(file: io.BufferedReader[Any]) -> Iterator[Numbered[bytes]]:
    """Yield the numbered lines of a file in UTF-8, each as soon as it is there; None for one above `MAX_LINE`.

    What is no text in the encoding of its byte order mark is no UTF-8 in its line.
    """
    encoding = encoding_of(file.peek(_START_BYTES)[:_START_BYTES])
    if encoding == UTF_8:
        yield from byte_lines(file)
        return
    with io.TextIOWrapper(file, encoding=encoding, errors=decoding_errors(encoding), newline="") as text:
        for number, line in bounded_lines(text.readline):
            yield number, escaped_bytes(line) if line is not None else None


def _checked(number: int, given: json_reader.JsonInput | None) -> CheckedMessage:
    if given is None:
        return CheckedMessage(number, b"", f"line {number} has more than {MAX_LINE} bytes")
    text = given.raw.strip()
    if given.fault is not None:
        return CheckedMessage(number, text, _described(number, given.fault))
    if isinstance(given.value, dict) and _is_notice(given.value.get("$command")):
        wrong = command_fault(given.value)
        return CheckedMessage(number, text, _described(number, ("bad_command", wrong)) if wrong else "")
    batch = ReceivedBatch("zsend")
    json_reader.read_message(text, batch, time.time_ns() // 1_000_000)
    if not batch.refusals:
        return CheckedMessage(number, text)
    refusal = batch.refusals[0]
    return CheckedMessage(number, text, _described(number, (refusal.code, refusal.message)))


def _is_notice(command: Any) -> bool:
    return isinstance(command, str) and command in NOTICES


def _described(number: int, fault: Fault) -> str:
    code, message = fault
    if code == json_reader.NOT_JSON:
        return f"line {number} is not a JSON document: {message}"
    if code == "not_a_document":
        return f"line {number} is {message}"
    return f"line {number}: {code}: {message}"
