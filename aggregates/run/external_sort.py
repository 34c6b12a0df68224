"""Sort more records than fit in memory: spill sorted runs to temporary files and merge them."""

from __future__ import annotations

import heapq
import operator
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Any, Self

from mapreduce.codec import decode, encode

MEMORY_BYTES = 64 * 2**20
RECORD_BYTES = 400  # overhead of a record in Python, on top of its encoded values
SAMPLE = 100  # every SAMPLE-th record is measured

Record = tuple[tuple[str, bytes], Mapping[str, Any]]


class ExternalSort:
    """Accept records in any order and iterate over them sorted by key; equal keys keep their insertion order.

    A sort key is an output and the `key_order` of a key in it. Memory use is limited to about `memory_bytes`. Not
    thread-safe; `close` removes the files.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._in_memory: list[Record] = []
        self._files = ExitStack()
        self._sorted_files: list[IO[bytes]] = []
        self._record_bytes = float(RECORD_BYTES)

    @property
    def file_count(self) -> int:
        return len(self._sorted_files)

    def add(self, sort_key: tuple[str, bytes], record: Mapping[str, Any]) -> None:
        """Add a record; its values must be BSON-encodable, since it can be spilled."""
        self._in_memory.append((sort_key, record))
        if len(self._in_memory) % SAMPLE == 1:
            self._record_bytes = 0.9 * self._record_bytes + 0.1 * (len(encode(record)) * 2 + RECORD_BYTES)
        if len(self._in_memory) * self._record_bytes > self._memory_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the records in memory to a file, sorted."""
        if not self._in_memory:
            return
        self._in_memory.sort(key=operator.itemgetter(0))
        file = self._files.enter_context(tempfile.TemporaryFile(prefix="zarkov-verify-"))  # noqa: SIM115 - `close` does
        for (output, order), record in self._in_memory:
            file.write(encode({"o": output, "b": order, "r": record}))
        self._in_memory.clear()
        self._sorted_files.append(file)

    def __iter__(self) -> Iterator[Record]:
        """Yield all records in order. Can be repeated as long as nothing is added in between."""
        self._in_memory.sort(key=operator.itemgetter(0))
        return heapq.merge(*(_read(file) for file in self._sorted_files), self._in_memory, key=operator.itemgetter(0))

    def close(self) -> None:
        self._in_memory.clear()
        self._sorted_files.clear()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(file: IO[bytes]) -> Iterator[Record]:
    file.seek(0)
    while head := file.read(4):
        document = decode(head + file.read(int.from_bytes(head, "little") - 4))
        yield (document["o"], document["b"]), document["r"]
