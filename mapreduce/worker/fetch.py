"""Fetch map output, piece by piece, from the workers that hold it. Runs in an executor."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import OutputGoneError
from mapreduce.job.value_check import shown
from mapreduce.settings import CurveKeys
from mapreduce.step.reduce import SortedRun
from mapreduce.wire.curve import as_client
from mapreduce.wire.message_reader import MessageReader

PIECE_BYTES = 2**20
AHEAD = 8  # pieces requested before the first has arrived
QUIET_S = 3.0  # a worker that sends nothing for this long counts as lost


@dataclass(frozen=True)
class Wanted:
    """One run of a partition and its location."""

    worker_id: str
    data_uri: str
    split: int
    attempt_id: str
    path: str | None  # file on the holder's machine; None = in the holder's memory
    offset: int
    length: int


class Fetcher:
    """Connections to the data sockets of other workers. Belongs to one thread; every call blocks."""

    def __init__(
        self, context: Any, own_worker_id: str, curve: CurveKeys | None = None, quiet_s: float = QUIET_S
    ) -> None:
        self._curve = curve
        self._context = context
        self._own = own_worker_id
        self._quiet_s = quiet_s
        self._sockets: dict[str, Any] = {}
        self._numbers = itertools.count()
        self._reader = MessageReader()

    def local(self, wanted: Wanted) -> SortedRun | None:
        """Return the run if it is in a file of this executor's own worker, else None."""
        if wanted.worker_id != self._own or wanted.path is None:
            return None
        return SortedRun(wanted.length, None, Path(wanted.path), wanted.offset)

    def fetch(self, job_id: str, wanted: Sequence[Wanted], target: Path | None) -> list[SortedRun]:
        """Copy runs into memory or, one after the other, into the file `target`.

        Raise `OutputGoneError`, with the lost splits in its details, if a worker is silent or no longer has a run.
        """
        if target is None:
            parts: list[list[bytes]] = [[] for _ in wanted]
            for index, data in self._pieces(job_id, wanted):
                parts[index].append(data)
            return [SortedRun(item.length, b"".join(part)) for item, part in zip(wanted, parts, strict=True)]
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with target.open("wb") as file:
            for _, data in self._pieces(job_id, wanted):
                file.write(data)
        starts = itertools.accumulate((item.length for item in wanted), initial=0)
        return [SortedRun(item.length, None, target, start) for item, start in zip(wanted, starts, strict=False)]

    def close(self) -> None:
        for socket in self._sockets.values():
            socket.close(0)
        self._sockets.clear()

    def _pieces(self, job_id: str, wanted: Sequence[Wanted]) -> Iterator[tuple[int, bytes]]:
        """Yield `(index in wanted, bytes)` in order, requesting up to `AHEAD` pieces in advance."""
        asked: deque[tuple[int, int, int]] = deque()
        ahead = self._requests(wanted)
        while True:
            for index, offset, length in itertools.islice(ahead, AHEAD - len(asked)):
                asked.append((index, length, self._ask(job_id, wanted[index], offset, length)))
            if not asked:
                return
            index, length, number = asked.popleft()
            yield index, self._receive(wanted, wanted[index], number, length)

    def _requests(self, wanted: Sequence[Wanted]) -> Iterator[tuple[int, int, int]]:
        for index, item in enumerate(wanted):
            for position in range(0, item.length, PIECE_BYTES):
                yield index, item.offset + position, min(PIECE_BYTES, item.length - position)

    def _ask(self, job_id: str, item: Wanted, offset: int, length: int) -> int:
        number = next(self._numbers)
        request = {"n": number, "job": job_id, "attempt": item.attempt_id, "offset": offset, "length": length}
        self._socket(item.data_uri).send(encode(request))
        return number

    def _receive(self, wanted: Sequence[Wanted], item: Wanted, number: int, length: int) -> bytes:
        """Return the piece of one request; a worker answers in the order of the requests."""
        socket = self._socket(item.data_uri)
        while socket.poll(int(self._quiet_s * 1000)):
            frames = self._reader.read(socket)
            if frames is None:
                continue
            try:
                header, data = frames
                answer = decode(header)
            except NOT_BSON:
                answer, data = {"n": number, "why": "the answer cannot be read"}, b""
            if answer.get("n") != number:
                continue  # answers a request of an earlier step that failed or was aborted
            if not answer.get("ok") or len(data) != length:
                raise OutputGoneError(f"split {item.split}: {shown(answer.get('why'))}", {"splits": [item.split]})
            return data
        self._sockets.pop(item.data_uri).close(0)
        # The worker is silent, so everything else that it holds is lost as well.
        splits = sorted({other.split for other in wanted if other.worker_id == item.worker_id})
        raise OutputGoneError(f"worker {item.worker_id} does not answer", {"splits": splits})

    def _socket(self, uri: str) -> Any:
        if uri not in self._sockets:
            socket = self._context.socket(zmq.DEALER)
            as_client(socket, self._curve)
            socket.set(zmq.LINGER, 0)
            socket.set_hwm(2 * AHEAD)  # requests and answers, so that no worker can fill this process
            socket.set(zmq.MAXMSGSIZE, PIECE_BYTES)
            socket.connect(uri)
            self._sockets[uri] = socket
        return self._sockets[uri]
