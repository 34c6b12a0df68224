"""Stop a service that runs in a thread of the test."""

from __future__ import annotations

import os


class StopRequest:
    """A stop request whose descriptor becomes readable, which wakes up the service that polls it."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        self._set = False

    def set(self) -> None:
        self._set = True
        os.write(self._write_end, b"x")

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        return self._read_end

    def close(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)
