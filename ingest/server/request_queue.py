"""Requests that were received while another one was handled, and cannot overtake it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

Frames = list[bytes]
Sender = tuple[bytes, ...]


class RequestQueue:
    """Requests in the order in which they were received, with their number by sender and their size.

    The first `envelope_count` frames of a request name its sender.
    """

    def __init__(self, envelope_count: int) -> None:
        self.size_bytes = 0
        self._envelope_count = envelope_count
        self._requests: deque[Frames] = deque()
        self._senders: Counter[Sender] = Counter()

    def __len__(self) -> int:
        return len(self._requests)

    def sender(self, request: Sequence[bytes]) -> Sender:
        """Return who has sent a request."""
        return tuple(request[: self._envelope_count])

    def has_request_of(self, sender: Sender) -> bool:
        """Return whether a request of a sender waits, so that its next one has to."""
        return sender in self._senders

    def append(self, request: Frames) -> None:
        """Add a request at the end."""
        self._requests.append(request)
        self._senders[self.sender(request)] += 1
        self.size_bytes += sum(map(len, request))

    def pop(self) -> Frames:
        """Remove the first request and return it."""
        request = self._requests.popleft()
        sender = self.sender(request)
        self._senders[sender] -= 1
        if not self._senders[sender]:
            del self._senders[sender]
        self.size_bytes -= sum(map(len, request))
        return request
