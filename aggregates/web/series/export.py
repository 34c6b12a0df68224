"""Export aggregates as CSV for spreadsheets or JSON lines for programs, generated while they are sent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from bson import Decimal128

from aggregates.web.compute_thread import compute
from aggregates.web.exceptions import BadRequestError
from aggregates.web.json_encoding import plain, to_json
from ingest.number_text import plain_decimal

_SAMPLE = 1000  # documents that define the columns; later ones can fill columns but not add any
_CHUNK = 500  # rows sent at once
_CELL_BYTES = 100  # that a cell counts for: all are computed in a thread but a few hundred rows
_BOM: Final = b"\xef\xbb\xbf"
_SIGNS: Final = frozenset("=+-@")  # spreadsheets run a cell that starts with one of these, or its full-width form
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
# Spreadsheets that guess the separator also try the semicolon and the tab; some trim blanks that are not quoted.
_QUOTED = re.compile(r"""[",;\t\r\n]|^\s|\s$""")
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers that show nothing

Rows = Iterable[Mapping[str, Any]]


def csv_lines(documents: Rows) -> Iterator[bytes]:
    """Yield a header and one row per document: key, then one column per field of the values (`value` for numbers).

    Fields that first appear after `_SAMPLE` documents go to the last column, `more`, as JSON. Numbers have all their
    digits and no exponent; NaN and infinities are empty cells. The form is that of RFC 4180.
    """
    rest = iter(documents)
    sample = list(islice(rest, _SAMPLE))
    columns = compute(_cells(sample), _columns, sample)
    yield _row(["key", *columns, "more"])
    documents = chain(sample, rest)
    while chunk := list(islice(documents, _CHUNK)):
        yield compute(_cells(chunk) * _CELL_BYTES, _csv_rows, chunk, columns)


def csv_lines_with_bom(documents: Rows) -> Iterator[bytes]:
    """Yield the same after a byte order mark, by which Excel knows that a file is UTF-8."""
    return chain([_BOM], csv_lines(documents))


def json_lines(documents: Rows) -> Iterator[bytes]:
    """Yield one JSON document per line: `_id`, `value` and `through`."""
    rest = iter(documents)
    while chunk := list(islice(rest, _CHUNK)):
        yield compute(_cells(chunk) * _CELL_BYTES, _json_rows, chunk)


def _cells(documents: list[Mapping[str, Any]]) -> int:
    """Return how many cells documents have in a table, with those of the key and of what has no column."""
    return sum(map(len, map(_fields, documents))) + 2 * len(documents)


def _columns(documents: list[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for document in documents for name in _fields(document))


def _csv_rows(documents: list[Mapping[str, Any]], columns: Mapping[str, None]) -> bytes:
    rows = []
    for document in documents:
        fields = _fields(document)
        more = {name: value for name, value in fields.items() if name not in columns}
        rows.append(_row([document["_id"], *(fields.get(name) for name in columns), more or None]))
    return b"".join(rows)


def _json_rows(documents: list[Mapping[str, Any]]) -> bytes:
    return b"".join(to_json(document) + b"\n" for document in documents)


def file_name(name: str) -> str:
    """Return `name` with only characters that are safe in a header and on every file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:100] or "export"


def form_of(form: str, bom: str) -> tuple[Callable[[Rows], Iterator[bytes]], str]:
    """Return the writer and the media type of `form`, `csv` or `jsonl`; `bom` is the parameter of that name.

    Raise `BadRequestError` if `bom` is neither empty nor 1, or given for another form than CSV.
    """
    if bom not in ("", "1"):
        raise BadRequestError(f"bom = {bom[:60]!r} is not allowed: use bom=1, or leave it out", parameter="bom")
    if form == "csv":
        return (csv_lines_with_bom if bom else csv_lines), "text/csv; charset=utf-8"
    if bom:
        raise BadRequestError("bom = 1 is for CSV: JSON never begins with a byte order mark", parameter="bom")
    return json_lines, "application/x-ndjson"


def _fields(document: Mapping[str, Any]) -> Mapping[str, Any]:
    value = document.get("value")
    return value if isinstance(value, Mapping) else {"value": value}


def _row(cells: Iterable[Any]) -> bytes:
    line = ",".join([_cell(value) for value in cells])
    return f"{line}\r\n".encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return plain_decimal(number) if number.is_finite() else ""
    if not isinstance(value, str):
        value = plain(value)
        if value is None or isinstance(value, bool | int | float):
            text = "" if value is None else str(value)
            return plain_decimal(value) if isinstance(value, float) and "e" in text else text
        if isinstance(value, dict | list):
            value = to_json(value).decode()
    text = f"'{value}" if _may_run(value) else value
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text


def _may_run(text: str) -> bool:
    """Return True if a spreadsheet may run this text as a formula, see "CSV Injection" of OWASP and ASVS 1.2.10.

    These are texts that begin with a control character such as tab or line feed, and texts whose first visible
    character is `=`, `+`, `-` or `@` in any width, unless they are plain numbers.
    """
    first = text[:1]
    if not first or (first.isascii() and first.isalnum()):
        return False
    if unicodedata.category(first) == "Cc":
        return True
    visible = next((char for char in text if not _is_blank(char)), "")
    return unicodedata.normalize("NFKC", visible) in _SIGNS and not _NUMBER.match(text)


def _is_blank(char: str) -> bool:
    """Return True for what shows nothing: spaces, controls, format characters, marks without a letter, fillers."""
    return unicodedata.category(char)[0] in "ZCM" or char in _BLANK_LETTERS
