"""Bound the memory of the states that all channels of a process keep."""

from __future__ import annotations

import threading

from aggregates.web.exceptions import UnavailableError

MOST_BYTES = 64 * 2**20
CHANNEL_BYTES = 2**16  # of a channel, and of the messages that it keeps for a small state


class StateBudget:
    """Know how many bytes each channel keeps. Any thread may call any method."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: dict[object, int] = {}
        self._kept_bytes = 0
        self._lacking: set[object] = set()  # channels whose last state had no room

    def check_room(self, channel_count: int) -> None:
        """Raise `UnavailableError` if there is no room for so many more channels, or one that is open lacks room."""
        if self._lacking or self._kept_bytes + channel_count * CHANNEL_BYTES > self._most_bytes:
            raise UnavailableError("too many large charts are open: close some, use shorter ranges, or try again later")

    def keep(self, channel: object, size_bytes: int) -> None:
        """Count what `channel` keeps from now on. Raise `UnavailableError` and change nothing if that is too much."""
        with self._lock:
            before = self._kept.get(channel, 0)
            wanted = size_bytes + CHANNEL_BYTES
            if wanted > before and self._kept_bytes - before + wanted > self._most_bytes:
                self._lacking.add(channel)
                raise UnavailableError("too many large charts are open: close some, or use shorter ranges")
            self._lacking.discard(channel)
            self._kept[channel] = wanted
            self._kept_bytes += wanted - before

    def release(self, channel: object) -> None:
        """Count nothing of `channel` any more. Can be called twice."""
        with self._lock:
            self._lacking.discard(channel)
            self._kept_bytes -= self._kept.pop(channel, 0)
