"""Read the input of quarantine entries, and write it as text for a person to mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bson.errors import BSONError
from bson.int64 import Int64
from bson.json_util import RELAXED_JSON_OPTIONS, dumps

from ingest.exceptions import IngestError
from ingest.load.quarantine_text import read_mended
from ingest.turn import NO_PAUSE, Turn
from ingest.wire import json_reader
from ingest.wire.codec import decode
from ingest.wire.json_value import loads
from ingest.wire.refusal import DOCUMENTS, RefusedValueError, pieces_of, stands_for_several
from ingest.wire.text_check import with_halves_escaped
from ingest.wire.text_encoding import describe_binary, encoding_of, is_read_as_windows_1252, readable_text
from ingest.wire.time_text import parse_time

MAX_MENDED_BYTES = 65_536  # longer text that is no document is not put into an edit form
MAX_INDENTED_CHARS = 65_536


class MendError(IngestError, code="still_refused"):
    """The input is still not a valid event. The text says why, `data` has the code."""


def document_count(entry: Mapping[str, Any]) -> int:
    """Return how many documents an entry stands for; see `ingest.wire.refusal.gathered`."""
    return int(entry.get("count", 1))


def decoded(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the refused document as far as it can be read, or None if it cannot be or there are several."""
    raw = entry.get("raw")
    if raw is None or stands_for_several(entry):
        return None
    for read in (loads, decode):
        try:
            value = read(raw)
        except (ValueError, BSONError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def raw_text(raw: bytes) -> str:
    """Return input as text, with a replacement for what is none."""
    return raw.decode(encoding_of(raw), "replace")


def text_to_mend(entry: Mapping[str, Any]) -> str:
    """Return the text of an edit form: what a replay would send, else the input if it is text, or an empty text."""
    mended = mended_of(entry)
    if mended is not None:
        return as_text(mended)
    raw = entry.get("raw", b"")
    return "" if len(raw) > MAX_MENDED_BYTES or stands_for_several(entry) else readable_text(raw) or ""


def is_offered_as_windows_1252(entry: Mapping[str, Any]) -> bool:
    """Return whether `text_to_mend` takes bytes of the input that are no UTF-8 for Windows-1252, which is a guess."""
    return mended_of(entry) is None and bool(text_to_mend(entry)) and is_read_as_windows_1252(entry["raw"])


def as_text(document: Mapping[str, Any]) -> str:
    """Return the document as extended JSON for an edit form; empty if it is nested too deep to be shown.

    It is the relaxed form, except that small 64-bit integers are marked, so that `from_text` returns the same types
    also without the original. Long text is not indented: a megabyte of deeply nested lists would have a hundred.
    """
    try:
        marked = _with_marked_integers(document)
        text = _json(marked, None)
        text = _json(marked, 2 if len(text) <= MAX_INDENTED_CHARS else 0)
    except RecursionError:
        return ""
    return with_halves_escaped(text)


def _json(document: Mapping[str, Any], indent: int | None) -> str:
    return dumps(document, indent=indent, ensure_ascii=False, json_options=RELAXED_JSON_OPTIONS)


def _with_marked_integers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_marked_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_marked_integers(item) for item in value]
    if type(value) is Int64 and -(2**31) <= value < 2**31:
        return {"$numberLong": str(int(value))}
    return value


def from_text(text: str, original: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Parse the text of an edit form, as JSON receivers do; what is as in `original` stays so. Raise `MendError`."""
    try:
        shown = "" if original is None else as_text(original)
        value = loads(text) if original is None or not shown else read_mended(text, shown, original)
        if not isinstance(value, dict):
            raise MendError(f"a JSON {type(value).__name__}; must be an object")
        if isinstance(value.get("timestamp"), str):
            value["timestamp"] = parse_time(value["timestamp"])
    except RefusedValueError as error:
        raise MendError(error.args[1]) from None
    except RecursionError:
        raise MendError("objects or arrays are nested too deep") from None
    except ValueError as error:
        raise MendError(f"not JSON: {error}") from None
    return value


def mended_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a replay sends: the kept mended document, else the input, or None if that is unreadable."""
    mended = entry.get("mended")
    return decode(mended) if mended is not None else decoded(entry)


def documents_of(entry: Mapping[str, Any], turn: Turn = NO_PAUSE) -> Iterator[Mapping[str, Any] | str]:
    """Yield the documents of an entry that stands for several; for each that cannot be read, the reason.

    Each is read by itself, from the bytes that were refused. Raise `MendError` if these cannot be told apart.
    """
    pieces = pieces_of(entry)
    if pieces is None:
        raise MendError(
            "the input cannot be told apart into the documents that were refused: download it, mend the file, and "
            "load its events"
        )
    for raw in turn.between(pieces):
        yield _bson_document(raw) if entry.get("joined") == DOCUMENTS else _json_document(raw)


def _bson_document(raw: bytes) -> Mapping[str, Any] | str:
    try:
        return decode(raw)
    except (BSONError, RecursionError) as error:
        return f"not BSON: {error}"


def _json_document(raw: bytes) -> Mapping[str, Any] | str:
    given = json_reader.decoded(0, raw)
    if given.fault is not None:
        return given.fault[1]
    return given.value if isinstance(given.value, dict) else f"a JSON {type(given.value).__name__}; must be an object"


def why_unreadable(raw: bytes) -> str:
    """Return why input that is no document cannot be replayed, and what to do."""
    if readable_text(raw) is None:
        return f"the input cannot be read as a document: {describe_binary(raw)}. Download it, and load its events"
    return "the input cannot be read as a document: write the event that it should have been"
