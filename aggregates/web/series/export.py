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
from aggregates.web.json_encoding import plain, to_json, to_json_in_pieces
from aggregates.web.series.document_reader import Piece
from ingest.number_text import plain_decimal

_SAMPLE = 1000  # documents that define the columns; later ones can fill columns but not add any
_SAMPLE_BYTES = 2**22  # of these documents, if they are large
_SENT_BYTES = 2**18  # of rows at once, if they are many
_CELL_BYTES = 100  # that a cell counts for: all are computed in a thread but a few hundred rows
_BOM: Final = b"\xef\xbb\xbf"
_SIGNS: Final = frozenset("=+-@")  # spreadsheets run a cell that starts with one of these, or its full-width form
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
# Spreadsheets that guess the separator also try the semicolon and the tab; some trim blanks that are not quoted.
_QUOTED: Final = ('"', ",", ";", "\t", "\r", "\n")
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers that show nothing

Rows = Iterable[Piece]


def csv_lines(rows: Rows) -> Iterator[bytes]:
    """Yield a header and one row per document: key, then one column per field of the values (`value` for numbers).

    Fields that first appear after `_SAMPLE` documents, or after `_SAMPLE_BYTES`, go to the last column, `more`, as
    JSON. Numbers have all their digits and no exponent; NaN and infinities are empty cells. The form is that of RFC
    4180.
    """
    rest = iter(rows)
    sample = _sample(rest)
    columns, header = compute(sum(piece.size_bytes for piece in sample), _header, sample)
    yield header
    rest = chain(sample, rest)
    del sample  # it is large, and only the iterator needs it, until its end
    for piece in rest:
        work_bytes = max(piece.work_bytes, piece.count * (len(columns) + 2) * _CELL_BYTES)
        yield from _written(piece, work_bytes, lambda document: _csv_row(document, columns))


def csv_lines_with_bom(rows: Rows) -> Iterator[bytes]:
    """Yield the same after a byte order mark, by which Excel knows that a file is UTF-8."""
    return chain([_BOM], csv_lines(rows))


def json_lines(rows: Rows) -> Iterator[bytes]:
    """Yield one JSON document per line: `_id`, `value` and `through`."""
    for piece in rows:
        work_bytes = max(piece.work_bytes, piece.count * 3 * _CELL_BYTES)
        yield from _written(piece, work_bytes, _json_line if piece.count > 1 else _long_json_line)


def _sample(rest: Iterator[Piece]) -> list[Piece]:
    """Return the first pieces, which have `_SAMPLE` documents or `_SAMPLE_BYTES` together if there are so many."""
    sample: list[Piece] = []
    count = size_bytes = 0
    while count < _SAMPLE and size_bytes < _SAMPLE_BYTES and (piece := next(rest, None)) is not None:
        sample.append(piece)
        count += piece.count
        size_bytes += piece.size_bytes
    return sample


def _header(sample: list[Piece]) -> tuple[dict[str, None], bytes]:
    documents = islice(chain.from_iterable(piece.documents for piece in sample), _SAMPLE)
    columns = dict.fromkeys(name for document in documents for name in _fields(document))
    return columns, _row(["key", *columns, "more"])


def _written(piece: Piece, work_bytes: int, write: Callable[[Mapping[str, Any]], bytes]) -> Iterator[bytes]:
    """Yield the lines of a piece, computed as `work_bytes`, some `_SENT_BYTES` at once."""
    documents = iter(piece.documents)
    while text := compute(work_bytes, _some_lines, documents, write):
        yield text
        if len(text) < _SENT_BYTES:
            break


def _some_lines(documents: Iterator[Mapping[str, Any]], write: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    lines: list[bytes] = []
    size_bytes = 0
    for document in documents:
        lines.append(write(document))
        size_bytes += len(lines[-1])
        if size_bytes >= _SENT_BYTES:
            break
    return b"".join(lines)


def _json_line(document: Mapping[str, Any]) -> bytes:
    return to_json(document) + b"\n"


def _long_json_line(document: Mapping[str, Any]) -> bytes:
    return to_json_in_pieces(document) + b"\n"


def _csv_row(document: Mapping[str, Any], columns: Mapping[str, None]) -> bytes:
    fields = _fields(document)
    more = {name: value for name, value in fields.items() if name not in columns}
    return _row([document["_id"], *(fields.get(name) for name in columns), more or None])


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
            value = to_json_in_pieces(value).decode()
    text = f"'{value}" if _may_run(value) else value
    return '"{}"'.format(text.replace('"', '""')) if _is_quoted(text) else text


def _is_quoted(text: str) -> bool:
    """Return True for what a reader may take apart or trim. A regular expression would take 20 ms for a long text."""
    return text[:1].isspace() or text[-1:].isspace() or any(mark in text for mark in _QUOTED)


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
