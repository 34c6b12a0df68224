"""Give out the body of a request only when all of it is there, and when few enough others are worked on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from aggregates.web.body_error import BrokenBodyError, TooLargeBodyError, UnservedBodyError
from aggregates.web.body_limit import MAX_BODY_BYTES, MAX_DRAINED_BYTES
from aggregates.web.exceptions import UnavailableError
from ingest.turn import sleeping_turn
from zarkov_site.body_budget import BodyBudget
from zarkov_site.slow_client import SlowClient, SlowClients, close_file

MEMORY_BYTES = 2**14  # of one body on its way; what is beyond goes to a temporary file
TOO_SLOW = "the body came too slowly while many others were under way: send it again"
_STEP_BYTES = 2**16


@dataclass(frozen=True)
class BodyMeans:
    """Hold what the requests of one process share: their slow clients, their budget and their folder."""

    clients: SlowClients = field(default_factory=SlowClients)
    budget: BodyBudget = field(default_factory=BodyBudget)
    folder: Path | None = None  # of files; None = the system's for temporary ones

    def file(self) -> SpooledTemporaryFile[bytes]:
        """Return an empty file, in memory as long as it is small."""
        return SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(self.folder) if self.folder else None)


def keep(data: bytes, kept: IO[bytes], client: SlowClient) -> None:
    """Count and write the next bytes of a body. Raise `UnavailableError` if there is no room for them."""
    client.grow(len(data))
    try:
        kept.write(data)
        kept.flush()
    except OSError as error:  # most often, the disk is full
        raise UnservedBodyError(
            f"there is no room for the body on this server ({error.strerror}): send it again later"
        ) from None


class PromisedInput:
    """A body of `length_bytes`, of which nothing is given out before all of it is in a file and has its turn.

    Where the client stops before, `read` raises `BrokenBodyError`: what was sent could pass for a whole request
    (RFC 9112, section 8). It raises `TooLargeBodyError` for more than `MAX_BODY_BYTES`, once the rest was thrown away,
    and `UnservedBodyError` while too many others are under way. `close` it at the end of the work on it.
    """

    def __init__(self, stream: Any, length_bytes: int, client: SlowClient, means: BodyMeans) -> None:
        self._stream = stream
        self._length_bytes = length_bytes
        self._client = client
        self._means = means
        self._kept: IO[bytes] | None = None
        self._has_turn = False
        self._held = ExitStack()

    @classmethod
    def of_file(cls, kept: IO[bytes], length_bytes: int, client: SlowClient, means: BodyMeans) -> PromisedInput:
        """Return a body that is there already, in a file at its start, and waits for its turn only."""
        body = cls(None, length_bytes, client, means)
        body._kept = kept
        body._held.callback(close_file, kept)
        return body

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes; all if it is None or negative."""
        return b"" if size == 0 else self._whole().read(-1 if size is None else size)

    def readline(self, size: int | None = -1) -> bytes:
        """Return the bytes up to the next line feed, at most `size`."""
        return b"" if size == 0 else self._whole().readline(-1 if size is None else size)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines."""
        return iter(self.readline, b"")

    def close(self) -> None:
        """Let go of the file and the turn. Can be called twice."""
        self._held.close()
        self._client.close()

    def _whole(self) -> IO[bytes]:
        try:
            if self._kept is None:
                kept = self._means.file()
                self._held.callback(close_file, kept)
                self._receive(kept)
                kept.seek(0)
                self._kept = kept
            if not self._has_turn:
                self._held.enter_context(self._means.budget.held(self._length_bytes))
                self._has_turn = True
        except UnavailableError as error:
            raise UnservedBodyError(error.message) from None
        return self._kept

    def _receive(self, kept: IO[bytes]) -> None:
        too_large = self._length_bytes > MAX_BODY_BYTES
        left = min(self._length_bytes, MAX_DRAINED_BYTES)
        turn = sleeping_turn()
        while left:
            with self._client.awaited():
                data = self._taken(min(left, _STEP_BYTES))
            if self._client.ended:
                raise UnservedBodyError(TOO_SLOW)
            if not data:
                got = self._length_bytes - left
                raise BrokenBodyError(f"the body ended after {got} of {self._length_bytes} bytes: send it again")
            left -= len(data)
            if not too_large:
                keep(data, kept, self._client)
            turn()
        if too_large:
            raise TooLargeBodyError(
                f"the body has {self._length_bytes} bytes, more than {MAX_BODY_BYTES}: send less at once"
            )

    def _taken(self, wanted: int) -> bytes:
        try:
            return bytes(self._stream.read(wanted))
        except OSError:
            return b""  # a connection that was reset has ended, too
