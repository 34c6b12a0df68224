"""Open a file for reading and unpack it on the way, by what it starts with and not by its name."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ingest.exceptions import LoadError
from ingest.wire.text_encoding import TAR_HEADER_BYTES, packing_of

PIECE_BYTES = 16_384  # unpacked in one step
_UNPACKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),  # 31: with the header and the checksum of RFC 1952
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}
_DAMAGE = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader[Any]]:
    """Open a plain, gzip, bzip2 or xz file. Raise `LoadError` for another packing, also of what was unpacked.

    Reading raises `LoadError`, with the position, where a packed file is noticed to be damaged or ends too early, after
    everything before that place has been read. What was read of a damaged member may be altered, which the error says.
    """
    with path.open("rb") as file:
        packing = _packing(file)
        if packing is None:
            yield file
            return
        name, command = packing
        if name not in _UNPACKERS:
            raise LoadError(f"{path} is packed with {name}, which cannot be read: unpack it first, with `{command}`")
        with io.BufferedReader(_Pieces(_unpacked(path, file, name))) as unpacked:
            if inner := _packing(unpacked):
                commands = inner[1] if inner[0] == "tar" else f"{command}` and `{inner[1]}"  # tar unpacks both
                raise LoadError(
                    f"{path} is packed with {inner[0]} within {name}, which cannot be read: unpack it first, with "
                    f"`{commands}`"
                )
            yield unpacked


def _packing(file: io.BufferedReader[Any]) -> tuple[str, str] | None:
    return packing_of(file.peek(TAR_HEADER_BYTES)[:TAR_HEADER_BYTES])


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the next piece; return 0 at the end."""
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def _unpacked(path: Path, file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield what the members of a packed file hold; there may be several, and zero bytes after them."""
    waiting, unpacked_bytes = b"", 0
    while True:
        member = _UNPACKERS[name]()
        member_place, unpacked_before = file.tell() - len(waiting), unpacked_bytes
        while not member.eof:
            waiting = waiting or file.read(PIECE_BYTES)
            if not waiting:
                raise LoadError(
                    f"{path}: damaged {name}: the file ends at byte {file.tell()}, in the middle of the packed data "
                    f"({unpacked_bytes} bytes were unpacked). {_ADVICE}"
                )
            before = member.copy() if hasattr(member, "copy") else None
            try:
                piece = member.decompress(waiting)
            except _DAMAGE as error:
                rescued = _rescued(before, waiting)
                yield from rescued
                place = file.tell() - len(waiting) + len(rescued)
                is_read = unpacked_bytes > unpacked_before or any(rescued)
                advice = _doubt(member_place, unpacked_before) if is_read else _ADVICE
                raise LoadError(
                    f"{path}: damaged {name}, noticed at about byte {place} of the file ({error}). {advice}"
                ) from None
            waiting = member.unused_data if member.eof else b""
            unpacked_bytes += len(piece)
            yield piece
        while not (waiting := waiting.lstrip(b"\0")):
            if not (waiting := file.read(PIECE_BYTES)):
                return


_ADVICE = "What stands before it was read: mend the file, and load the lines that follow"


def _doubt(place: int, unpacked_bytes: int) -> str:
    """Say what may be wrong of what was read: a damaged bit may be noticed late, at last by the checksum at the end."""
    return (
        f"The damage may stand earlier, and lines may be altered that were unpacked, and read, from byte {place} of "
        f"the file on (byte {unpacked_bytes} of its content): get the file once more, and compare these events with it"
    )


def _rescued(member: Any, waiting: bytes) -> list[bytes]:
    """Return what can be unpacked of a damaged piece, one item per packed byte before the damage."""
    found: list[bytes] = []
    for place in range(len(waiting) if member is not None else 0):
        try:
            found.append(member.decompress(waiting[place : place + 1]))
        except _DAMAGE:
            break
    return found
