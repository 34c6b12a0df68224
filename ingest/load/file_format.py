"""Read the files of `loadevents`: JSON lines, BSON dumps and CSV, plain or gzip; bytes in, numbered events out."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
from bson.errors import BSONError

from ingest.exceptions import IngestError
from ingest.store.rotation import RotationError, read_dump
from ingest.wire import json_value as json_reader
from ingest.wire.event import MAX_MESSAGE_BYTES
from ingest.wire.stored_event import restored
from ingest.wire.time_text import parse_time

TYPES = ("text", "int", "float", "json")
_FIELDS = ("type", "timestamp", "id", "context", "extra")


class LoadError(IngestError, code="cannot_load"):
    """A file that cannot be read, or an option that does not fit it."""


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """A line or document of a source: an event as BSON with an `id`, or the reason why it is not one."""

    number: int
    event: bytes = b""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """The source of a field of an event: a column of a CSV file, or a text that is the same for all rows."""

    field: str  # a path such as context.user
    column: str
    type: str = "text"
    constant: bool = False


def parse_mapping(texts: Sequence[str]) -> list[Column]:
    """Parse `field=column`, `field=column:type` and `field==text`. Raise `LoadError`."""
    found = []
    for text in texts:
        name, separator, column = text.partition("=")
        if not separator or not column or name.split(".")[0] not in _FIELDS:
            raise LoadError(
                f"--map {text!r}: write FIELD=COLUMN, FIELD=COLUMN:TYPE or FIELD==TEXT; fields are type, timestamp, "
                f"id, context.NAME, extra and extra.NAME, types are {', '.join(TYPES)}"
            )
        if column.startswith("="):
            found.append(Column(name, column[1:], constant=True))
            continue
        head, _, type_ = column.rpartition(":")
        found.append(Column(name, head, type_) if head and type_ in TYPES else Column(name, column))
    refuse_conflicts([column.field for column in found])
    return found


def refuse_conflicts(fields: Sequence[str]) -> None:
    """Raise `LoadError` if a field is given twice, or both as a value and as a document with fields."""
    for index, field in enumerate(fields):
        for other in fields[index + 1 :]:
            if field == other:
                raise LoadError(f"{field} is given twice: leave one of them out")
            shorter, longer = sorted((field, other), key=len)
            if longer.startswith(f"{shorter}."):
                raise LoadError(f"{shorter} and {longer} exclude each other: a value has no fields; leave one out")


def read(path: Path, columns: Sequence[Column] = (), *, after: int = 0) -> Iterator[NumberedEvent]:
    """Yield the events after line `after` of a file named `.bson`, `.csv` or else (JSON lines), each also with `.gz`.

    An event without `id` gets one made of the whole file's content and the line number (in a dump: of the stored
    document), so that no event is stored twice if the file is loaded again, under any name. Raise `LoadError`.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    if columns and kind != ".csv":
        raise LoadError(f"{path}: --map is for files named *.csv or *.csv.gz")
    if path.exists() and not path.is_file():
        raise LoadError(
            f"{path} is not a regular file: it must be readable twice, to make ids that are the same in every load and "
            "to resume after an interruption. Save it as a file first"
        )
    try:
        if kind == ".bson":
            yield from _dump(path, after)
        elif kind == ".csv":
            yield from _table(path, columns, after)
        else:
            yield from _lines(path, after)
    except RotationError as error:
        raise LoadError(f"{path}: {error}") from None
    except (OSError, EOFError) as error:
        raise LoadError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _dump(path: Path, after: int) -> Iterator[NumberedEvent]:
    with _open(path) as file:
        for number, raw in enumerate(read_dump(file), 1):
            if number > after:
                yield _made(number, lambda raw=raw: restored(raw))


def _lines(path: Path, after: int) -> Iterator[NumberedEvent]:
    ids = _Ids(path)
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if number > after and line.strip():
                yield _made(number, lambda line=line, number=number: _encoded(json_reader.loads(line), ids, number))


def _encoded(value: Any, ids: _Ids, number: int) -> bytes:
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}; must be an object")  # noqa: TRY004 - one kind of error
    if isinstance(value.get("timestamp"), str):
        value["timestamp"] = parse_time(value["timestamp"])
    if "id" not in value:
        value["id"] = ids.of(number)
    return bson.encode(value)


def _table(path: Path, columns: Sequence[Column], after: int) -> Iterator[NumberedEvent]:
    ids = _Ids(path)
    with _open(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text)
        try:
            header = next(rows, [])
            chosen = list(columns) or [Column(name, name) for name in header]
            places = _places(path, header, chosen)
            for row in rows:
                number = rows.line_num
                if number > after and row:
                    yield _made(number, lambda row=row, number=number: _encoded(
                        _document(row, chosen, places, len(header)), ids, number
                    ))  # fmt: skip
        except csv.Error as error:
            raise LoadError(f"{path}, line {rows.line_num}: {error}") from None


def _places(path: Path, header: Sequence[str], columns: Sequence[Column]) -> dict[str, int]:
    known = {name: place for place, name in enumerate(header)}
    missing = [column.column for column in columns if not column.constant and column.column not in known]
    if missing:
        raise LoadError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header) or 'no header'}")
    strange = [column.field for column in columns if column.field.split(".")[0] not in _FIELDS]
    if strange:
        raise LoadError(
            f"{path}: column {strange[0]!r} is not a field of an event: map the columns with --map, "
            f"such as --map type==visit --map context.page={strange[0]}"
        )
    refuse_conflicts([column.field for column in columns])
    return known


def _document(row: Sequence[str], columns: Sequence[Column], places: Mapping[str, int], width: int) -> dict[str, Any]:
    if len(row) != width:
        raise ValueError(f"{len(row)} cells; the header has {width}")
    document: dict[str, Any] = {}
    for column in columns:
        text = column.column if column.constant else row[places[column.column]]
        if text == "":
            continue
        *parents, last = column.field.split(".")
        target = document
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = _typed(text, column)
    if isinstance(stamp := document.get("timestamp"), str) and (seconds := _number(stamp)) is not None:
        document["timestamp"] = json_reader.loads(json.dumps({"$datetime": seconds}))
    return document


def _typed(text: str, column: Column) -> Any:
    try:
        if column.type == "int":
            return int(text)
        if column.type == "float":
            return float(text)
    except ValueError:
        raise ValueError(f"column {column.column}: {text[:60]!r} cannot be read as {column.type}") from None
    return json_reader.loads(text) if column.type == "json" else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class _Ids:
    """Make ids for the lines of a file from its whole content, which is read when the first line needs an id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = ""

    def of(self, number: int) -> str:
        if not self._content:
            with _open(self._path) as file:
                self._content = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(f"{self._content}\0{number}".encode()).hexdigest()[:32]


def _made(number: int, make: Any) -> NumberedEvent:
    try:
        event = make()
    except (ValueError, BSONError, OverflowError, RecursionError) as error:
        return NumberedEvent(number, fault=str(error.args[-1] if error.args else error))
    if len(event) > MAX_MESSAGE_BYTES:
        return NumberedEvent(
            number, fault=f"{len(event)} bytes as BSON, more than the {MAX_MESSAGE_BYTES} of a message"
        )
    return NumberedEvent(number, event)
