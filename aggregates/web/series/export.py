"""Export aggregates as CSV for spreadsheets or JSON lines for programs, generated while they are sent."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from aggregates.web.json_encoding import plain, to_json

_SAMPLE = 1000  # documents that define the columns; later ones can fill columns but not add any
_CHUNK = 500  # rows sent at once
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets treat these as the start of a formula

Rows = Iterable[Mapping[str, Any]]


def csv_lines(documents: Rows) -> Iterator[bytes]:
    """Yield a header and one row per document: key, then one column per field of the values (`value` for numbers).

    Fields that first appear after `_SAMPLE` documents go to the last column, `more`, as JSON. Texts that a
    spreadsheet would run as a formula are prefixed with an apostrophe (OWASP, CSV injection).
    """
    rest = iter(documents)
    sample = list(islice(rest, _SAMPLE))
    columns = list(dict.fromkeys(name for document in sample for name in _fields(document)))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["key", *(_safe(name) for name in columns), "more"])
    for count, document in enumerate(chain(sample, rest), start=1):
        fields = _fields(document)
        more = {name: value for name, value in fields.items() if name not in columns}
        cells = [_cell(fields.get(name)) for name in columns]
        writer.writerow([_cell(document["_id"]), *cells, to_json(more).decode() if more else ""])
        if count % _CHUNK == 0:
            yield _take(buffer)
    yield _take(buffer)


def json_lines(documents: Rows) -> Iterator[bytes]:
    """Yield one JSON document per line: `_id`, `value` and `through`."""
    rest = iter(documents)
    while chunk := list(islice(rest, _CHUNK)):
        yield b"".join(to_json(document) + b"\n" for document in chunk)


def file_name(name: str) -> str:
    """Return `name` with only characters that are safe in a header and on every file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:100] or "export"


FORMS: dict[str, tuple[Callable[[Rows], Iterator[bytes]], str]] = {
    "csv": (csv_lines, "text/csv; charset=utf-8"),
    "jsonl": (json_lines, "application/x-ndjson"),
}


def _fields(document: Mapping[str, Any]) -> Mapping[str, Any]:
    value = document.get("value")
    return value if isinstance(value, Mapping) else {"value": value}


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, dict | list):
        return _safe(to_json(value).decode())
    return _safe(value) if isinstance(value, str) else value


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _take(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode("utf-8", "replace")
    buffer.seek(0)
    buffer.truncate()
    return data
