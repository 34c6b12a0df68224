"""Bound the memory of the states that all channels of a process keep."""

from __future__ import annotations

import threading

from aggregates.web.exceptions import UnavailableError

MOST_BYTES = 64 * 2**20
SMALL_BYTES = 2**19  # of a state that large ones leave room for
RESERVED_BYTES = MOST_BYTES // 4  # for small ones
CHANNEL_BYTES = 2**16  # of a channel, and of the messages that it keeps for a small state


class StateBudget:
    """Know how many bytes each channel keeps. Any thread may call any method."""

    def __init__(self, most_bytes: int = MOST_BYTES, reserved_bytes: int = RESERVED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._reserved_bytes = reserved_bytes
        self._lock = threading.Lock()
        self._kept: dict[object, int] = {}
        self._kept_bytes = 0

    def check_room(self, channel_count: int) -> None:
        """Raise `UnavailableError` if there is no room for so many more channels, whatever they keep."""
        if self._kept_bytes + channel_count * CHANNEL_BYTES > self._most_bytes:
            raise UnavailableError("too many charts are open: close some, or try again later")

    def keep(self, channel: object, size_bytes: int) -> None:
        """Count what `channel` keeps from now on. Raise `UnavailableError` and change nothing if that is too much."""
        most_bytes = self._most_bytes - (self._reserved_bytes if size_bytes > SMALL_BYTES else 0)
        with self._lock:
            before = self._kept.get(channel, 0)
            wanted = size_bytes + CHANNEL_BYTES
            if wanted > before and self._kept_bytes - before + wanted > most_bytes:
                raise UnavailableError("too many large charts are open: close some, or use shorter ranges")
            self._kept[channel] = wanted
            self._kept_bytes += wanted - before

    def release(self, channel: object) -> None:
        """Count nothing of `channel` any more. Can be called twice."""
        with self._lock:
            self._kept_bytes -= self._kept.pop(channel, 0)
