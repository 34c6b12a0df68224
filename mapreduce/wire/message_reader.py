"""Read messages of sockets in parts, and count them."""

from __future__ import annotations

import zmq

LARGE_BYTES = 64 * 2**10
MOST_FRAMES = 100  # of a message that are kept; the longest that the engine sends has five
_FRAMES_AT_ONCE = 1_000  # read of one message before another socket has its turn


class MessageReader:
    """Read messages for one thread; any thread may ask for the counts so far."""

    def __init__(self) -> None:
        self.large_count = 0  # messages of `LARGE_BYTES` or more
        self.read_bytes = 0
        self._begun: dict[zmq.Socket[bytes], list[bytes]] = {}  # messages of which not all frames were read

    def read(self, socket: zmq.Socket[bytes]) -> list[bytes] | None:
        """Return the next message with its first `MOST_FRAMES`; None if none is there, or not all of it was read.

        A message can have millions of frames: each call reads some of them, so that the other socket has its turn.
        """
        frames = self._begun.pop(socket, [])
        try:
            for _ in range(_FRAMES_AT_ONCE):
                frame = socket.recv(zmq.NOBLOCK)
                self.read_bytes += len(frame)
                if len(frames) < MOST_FRAMES:
                    frames.append(frame)
                if not socket.getsockopt(zmq.RCVMORE):
                    self.large_count += sum(map(len, frames)) >= LARGE_BYTES
                    return frames
        except zmq.Again:
            return None
        self._begun[socket] = frames
        return None
