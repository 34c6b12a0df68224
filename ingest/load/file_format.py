"""Read the files of `loadevents`: JSON, BSON dumps and CSV, plain or packed; bytes in, numbered events out."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from bson.errors import BSONError

from ingest.exceptions import LoadError
from ingest.load import json_array
from ingest.load.column import FIELDS, Column, document_of, refuse_conflicts
from ingest.load.csv_rows import CsvTable, Row
from ingest.load.json_stream import json_lines
from ingest.load.line_reader import MAX_LINE, bounded_lines, text_pieces
from ingest.load.packed_file import opened
from ingest.store.rotation import RotationError, read_dump
from ingest.wire.bson_element import assembled, elements, text_element
from ingest.wire.event import FIELDS as EVENT_FIELDS
from ingest.wire.event import MAX_MESSAGE_BYTES, fault_of
from ingest.wire.json_lines import depth_change, split_lines, starts_list
from ingest.wire.json_reader import JsonInput, decoded, encode_event, fault_of_error
from ingest.wire.json_value import BLANKS, is_one_value
from ingest.wire.refusal import RefusedValueError
from ingest.wire.stored_event import restored
from ingest.wire.text_encoding import (
    BYTE_ORDER_MARK,
    UTF_8,
    decoding_errors,
    encoding_of,
    escaped_bytes,
    lacks_mark,
)

_PACKED = (".gz", ".bz2", ".xz")
_TABLES = (".csv", ".tsv")
_START_BYTES = 4096
_UNCHECKED = text_element("$command", "event_noval")
_NO_COMMAND = ("unknown_command", "$command is not one that a file can hold; use event_noval")


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """A line or document of a source: an event as BSON with an `id`, or the reason why it is not one."""

    number: int
    event: bytes = b""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Hold the options that say how to read a file where its content does not."""

    columns: Sequence[Column] = ()  # the sources of fields in CSV; none: the columns are named as fields
    delimiter: str = ""  # of CSV; empty: what the header tells
    extended: bool = True  # False: MongoDB's extended JSON stays as it is written


def read(path: Path, options: FileOptions | None = None, *, after: int = 0) -> Iterator[NumberedEvent]:
    """Yield the events after line `after` of a file named `.bson`, `.csv`, `.tsv` or else (JSON), each also packed.

    JSON is one object after the other, each on a line or on several, or one list. An event without `id` gets one made
    of the whole file's content and the line number, so that no event is stored twice if the file is loaded again, under
    any name. Documents with an `_id`, in dumps and as mongoexport writes them, are stored ones: see `restored`. Raise
    `LoadError`; what was yielded before stands in the file before the place that it names.
    """
    options = options or FileOptions()
    name = path.name.lower()
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    kind = Path(name).suffix
    if path.exists() and not path.is_file():
        raise LoadError(
            f"{path} is not a regular file: it must be readable twice, to make ids that are the same in every load and "
            "to resume after an interruption. Save it as a file first"
        )
    try:
        if kind not in _TABLES and (options.columns or options.delimiter):
            with opened(path):
                pass  # it raises for another compression, as of *.csv.zst, which is what has to be said first
            raise LoadError("--map and --delimiter are for CSV, in files named *.csv, *.csv.gz and so on")  # noqa: TRY301 - raised as the other errors of the file are
        if kind == ".bson":
            yield from _dump(path, after)
        elif kind in _TABLES:
            yield from _table(path, options, after)
        else:
            yield from _json(path, after, options.extended)
    except LoadError as error:
        raise (error if str(path) in str(error) else LoadError(f"{path}: {error}")) from None
    except RotationError as error:
        raise LoadError(f"{path}: {error}") from None
    except (OSError, EOFError) as error:
        raise LoadError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _dump(path: Path, after: int) -> Iterator[NumberedEvent]:
    ids = _Ids(path)
    with opened(path) as file:
        for number, raw in enumerate(read_dump(file), 1):
            if number > after:
                yield _made(number, partial(_dumped, raw, ids, number))


def _json(path: Path, after: int, extended: bool) -> Iterator[NumberedEvent]:
    ids = _Ids(path)
    decode = partial(decoded, 0, extended=extended)
    with opened(path) as file:
        start = file.peek(_START_BYTES)[:_START_BYTES]
        encoding = _encoding(start)
        if _is_list(start.decode(encoding, "ignore")):
            for number, item in enumerate(json_array.items(text_pieces(file, encoding)), 1):
                if number > after:
                    yield _of_value(number, decode(escaped_bytes(item)), ids)
            return
        for span in split_lines((line for line in json_lines(file) if line[0] > after), decode):
            if span.value is None:
                yield NumberedEvent(span.last, fault=f"the line has more than {MAX_LINE} bytes")
            else:
                event = _of_value(span.last, span.value, ids)
                beginning = f"from line {span.first} on: " if event.fault and span.first < span.last else ""
                yield replace(event, fault=beginning + event.fault) if beginning else event


def _dumped(raw: bytes, ids: _Ids, number: int) -> bytes:
    """Return a document of a dump as an event: one with `_id` was stored before, others are as in other files."""
    found = {name: raw[start:end] for name, start, end in elements(raw)}
    if b"_id" in found:
        return restored(raw)
    if found.get(b"$command", _UNCHECKED) != _UNCHECKED:
        raise RefusedValueError(*_NO_COMMAND)
    return raw if b"id" in found else assembled(raw[4:-1], text_element("id", ids.of(number)))


def _of_value(number: int, given: JsonInput, ids: _Ids) -> NumberedEvent:
    if given.fault is not None:
        return NumberedEvent(number, fault=given.fault[1])
    return _made(number, lambda: _encoded(given.value, ids, number), given.raw)


def _is_list(start: str) -> bool:
    """Return whether a file that starts so holds a list, and not lines, be they lists or those of a log."""
    text, *rest = re.split(r"[\r\n]+", start.lstrip(BYTE_ORDER_MARK + BLANKS), maxsplit=1)
    line = text.encode("utf-8", "ignore")
    if "".join(rest).strip():
        return starts_list(line) and depth_change(line) > 0
    return starts_list(line) or (line.startswith(b"[") and is_one_value(line))


def _encoding(start: bytes) -> str:
    encoding = encoding_of(start)
    if encoding == UTF_8 and lacks_mark(start):
        raise LoadError("looks like UTF-16 or UTF-32 without a byte order mark: convert it to UTF-8, with `iconv`")
    return encoding


def _as_text(file: BinaryIO, encoding: str) -> io.TextIOWrapper:
    """Return the file as text; what is none in its encoding becomes surrogates, so that only its line is refused."""
    name = "utf-8-sig" if encoding == UTF_8 else encoding
    return io.TextIOWrapper(file, encoding=name, errors=decoding_errors(encoding), newline="")


def _encoded(value: Any, ids: _Ids, number: int) -> bytes:
    if isinstance(value, dict):
        if value.get("$command", "event_noval") != "event_noval":
            raise RefusedValueError(*_NO_COMMAND)
        if "_id" in value:
            value.pop("$command", None)
            event = encode_event(value)
            if fault := fault_of({name: value[name] for name in EVENT_FIELDS & value.keys()}, b""):
                raise RefusedValueError(*fault)
            return restored(event)
        if "id" not in value:
            value["id"] = ids.of(number)
    return encode_event(value)


def _table(path: Path, options: FileOptions, after: int) -> Iterator[NumberedEvent]:
    ids = _Ids(path)
    sources = {column.column for column in options.columns if not column.constant}

    def is_wanted(header: list[str]) -> bool:
        names = {name.split(".")[0] for name in header}
        return sources <= set(header) if options.columns else names <= set(FIELDS)

    with opened(path) as file, _as_text(file, _encoding(file.peek(_START_BYTES)[:_START_BYTES])) as text:
        table = CsvTable(bounded_lines(text.readline), options.delimiter, is_wanted)
        if not table.header:
            return  # an empty file has no events, in CSV as in JSON
        chosen = list(options.columns) or [Column(name, name) for name in table.header]
        places = _places(path, table.header, chosen)
        for row in table:
            if row.number <= after:
                continue
            if row.fault:
                yield NumberedEvent(row.number, fault=row.fault)
            else:
                make = partial(_row_as_event, row, chosen, places, ids, mapped=bool(options.columns))
                yield _made(row.number, make)


def _row_as_event(row: Row, columns: Sequence[Column], places: Mapping[str, int], ids: _Ids, *, mapped: bool) -> bytes:
    document = document_of(row.cells, columns, places)
    if mapped and "id" not in document:
        document["id"] = ids.of(row.number, str(document.get("type", "")))
    return _encoded(document, ids, row.number)


def _places(path: Path, header: Sequence[str], columns: Sequence[Column]) -> Mapping[str, int]:
    known = {name: place for place, name in enumerate(header)}
    asked = [column.column for column in columns if not column.constant]
    if missing := [name for name in asked if name not in known]:
        raise LoadError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header) or 'no header'}")
    counts = Counter(header)
    if repeated := [name for name in asked if counts[name] > 1]:
        raise LoadError(f"{path} has more than one column {repeated[0]!r}: rename one in the header")
    strange = [column.field for column in columns if column.field.split(".")[0] not in FIELDS]
    if strange:
        raise LoadError(
            f"{path}: column {strange[0]!r} is not a field of an event: map the columns with --map, "
            f"such as --map type==visit --map context.page={strange[0]}"
        )
    refuse_conflicts([column.field for column in columns])
    return known


class _Ids:
    """Make ids for the lines of a file from its whole content, which is read when the first line needs an id.

    Of a damaged file it is the content before the damage, which is the same in every load.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = ""

    def of(self, number: int, event_type: str = "") -> str:
        """Return the id of a line. With a type, that of an event which a mapping makes of it: there may be several."""
        if not self._content:
            digest = hashlib.sha256()
            with opened(self._path) as file:
                try:
                    while piece := file.read1(2**20):
                        digest.update(piece)
                except LoadError:
                    pass  # the reader reports it when it comes to the place
            self._content = digest.hexdigest()
        line = f"{self._content}\0{number}" + (f"\0{event_type}" if event_type else "")
        return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _made(number: int, make: Callable[[], bytes], raw: bytes = b"") -> NumberedEvent:
    try:
        event = make()
    except (ValueError, RecursionError) as error:
        fault = str(error) if not raw and len(error.args) < 2 else fault_of_error(error, raw)[1]
        return NumberedEvent(number, fault=fault)
    except (BSONError, OverflowError) as error:
        return NumberedEvent(number, fault=str(error))
    if len(event) > MAX_MESSAGE_BYTES:
        return NumberedEvent(
            number, fault=f"{len(event)} bytes as BSON, more than the {MAX_MESSAGE_BYTES} of a message"
        )
    return NumberedEvent(number, event)
