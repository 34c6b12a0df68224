"""Decoder of the batch in the server's reply to `find` or `getMore`, piece by piece from its bytes.

An array is a document whose keys are "0", "1", ... (BSON specification 1.1, bsonspec.org). Its documents are located by
their lengths alone, so that no Python object is made before the C decoder takes a whole piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from mapreduce.codec import CODEC, RAW, decode
from mapreduce.exceptions import InputRefusedError

PIECE_BYTES = 256 * 2**10  # decoded in one call: the resulting objects fit into a processor's cache
_ARRAY = 4  # BSON's type of an array
_INT32 = Struct("<i")
_ESCAPING = CODEC.with_options(unicode_decode_error_handler="backslashreplace")  # to show ids
_length_at = _INT32.unpack_from


class CursorReply:
    """The `cursor` document of a reply. Belongs to one thread."""

    def __init__(self, raw: bytes, name: str) -> None:
        """Parse the cursor id; `name` is the key of the batch, `firstBatch` or `nextBatch`."""
        self._raw = raw
        self._name = name
        self._whole: list[dict[str, Any]] | None = None
        start = 4 + 1 + len(name) + 1
        if len(raw) <= PIECE_BYTES or raw[4] != _ARRAY or raw[5:start] != name.encode() + b"\0":
            cursor = self._decoded(raw)
            self._whole, self.cursor_id = cursor[name], int(cursor["id"])
            return
        self._start = start + 4
        self._end = start + _length_at(raw, start)[0] - 1
        rest = raw[self._end + 1 :]
        self.cursor_id = int(decode(_INT32.pack(4 + len(rest)) + rest)["id"])

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the documents in order, in lists of about `PIECE_BYTES` encoded bytes; nothing for an empty batch."""
        if self._whole is not None:
            if self._whole:
                yield self._whole
            return
        start = self._start
        for end in self._cuts():
            piece = self._raw[start:end]
            # Wrap the piece as the array under the only key, "", of a document.
            head = _INT32.pack(len(piece) + 12) + b"\x04\0" + _INT32.pack(len(piece) + 5)
            yield self._decoded(head + piece + b"\0\0")[""]
            start = end

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            return decode(data)
        except BSONError as error:
            raise self._unreadable() or error from error

    def _unreadable(self) -> InputRefusedError | None:
        """Return an error that names the first document that cannot be read; other programs may have written it."""
        documents = RawBSONDocument(self._raw, RAW)[self._name]
        for document in documents:
            try:
                decode(document.raw)
            except BSONError as error:
                found = bson.decode(document.raw, _ESCAPING).get("_id")
                what_to_do = "mend or delete it, or leave it out by the filter"
                return InputRefusedError(f"the document with _id {found!r:.200} cannot be read ({error}): {what_to_do}")
        return None

    def _cuts(self) -> Iterator[int]:
        """Yield the end of each piece, always at the end of a document."""
        raw, end = self._raw, self._end
        position = start = self._start
        digits, left = 1, 10  # ten keys have one digit, ninety have two, and so on
        while position < end:
            position += 2 + digits + _length_at(raw, position + 2 + digits)[0]
            left -= 1
            if not left:
                digits += 1
                left = 9 * 10 ** (digits - 1)
            if position - start >= PIECE_BYTES:
                yield position
                start = position
        if position > start:
            yield position
