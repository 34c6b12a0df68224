"""Keep messages until a subscriber wants them, within bounds; drop the oldest and count what is dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

OUTBOX_BYTES = 8 * 2**20


class Outbox:
    """One queue per level. Belongs to the sender's thread; any thread can read the counts."""

    def __init__(self, most_bytes: int = OUTBOX_BYTES) -> None:
        self._queues: dict[bytes, deque[tuple[bytes, int]]] = {}  # by topic: message, measurements in it
        self._most_bytes = most_bytes
        self._bytes = 0
        self.waiting = 0  # messages
        self.dropped_messages = 0
        self.dropped_measurements = 0

    def put(self, topic: bytes, message: bytes, measurements: int) -> None:
        """Queue a message. If all queues together are too large, drop the oldest messages of the longest queue."""
        self._queues.setdefault(topic, deque()).append((message, measurements))
        self._bytes += len(message)
        self.waiting += 1
        while self._bytes > self._most_bytes:
            _, lost = self._take(max(self._queues.values(), key=len))
            self.dropped_messages += 1
            self.dropped_measurements += lost

    def _take(self, queue: deque[tuple[bytes, int]]) -> tuple[bytes, int]:
        message, measurements = queue.popleft()
        self._bytes -= len(message)
        self.waiting -= 1
        return message, measurements

    def drop_all(self) -> int:
        """Drop all messages. Return the number of measurements in them."""
        lost = 0
        for queue in self._queues.values():
            while queue:
                lost += self._take(queue)[1]
                self.dropped_messages += 1
        self.dropped_measurements += lost
        return lost

    def send(self, wanted: Callable[[bytes], bool], send: Callable[[bytes], bool]) -> bool:
        """Send the messages that are wanted until `send` returns False. Return True if none of them is left."""
        for topic, queue in self._queues.items():
            if queue and wanted(topic):
                while queue:
                    if not send(queue[0][0]):
                        return False
                    self._take(queue)
        return True
