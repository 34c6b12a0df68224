"""Counts by name what a broker's backend port sends. A process of its own: address as argument, questions on stdin.

A question `NAME COUNT` is answered by `equal` once exactly so
many measurements of this name have arrived, or by what has arrived after a minute; `NAME any` at once.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import zmq

from ingest.metrics.wire import BATCH, Batch, unpack


def main(address: str) -> None:
    """Serve until standard input ends."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(address)
    counts: Counter[str] = Counter()
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll(1_000))
        take(socket, counts)
        if sys.stdin.fileno() in ready:
            question = sys.stdin.readline().split()
            if not question:
                break
            print(answer(socket, counts, *question), flush=True)
    socket.close(linger=0)
    context.term()


def take(socket: Any, counts: Counter[str]) -> None:
    """Count what is there."""
    try:
        while True:
            message = socket.recv(zmq.NOBLOCK)
            fields = message.split(b"|", 3)
            if fields[1] == BATCH.encode():
                item = unpack(message)
                assert isinstance(item, Batch)
                counts[item.identity.name] += item.count
            else:
                counts[fields[2].decode()] += 1
    except zmq.Again:
        pass


def answer(socket: Any, counts: Counter[str], name: str, question: str) -> str:
    """Say whether as many as `question` asks for have arrived; or any, for the question "any"."""
    if question == "any":
        socket.poll(50)
        take(socket, counts)
        return "equal" if counts[name] else "none"
    wanted = int(question)
    deadline = time.monotonic() + 60
    while counts[name] < wanted and time.monotonic() < deadline:
        socket.poll(100)
        take(socket, counts)
    return "equal" if counts[name] == wanted else f"{counts[name]} instead of {wanted}"


if __name__ == "__main__":
    main(sys.argv[1])
