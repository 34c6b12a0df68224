"""When a router that has just been started is ready."""

from __future__ import annotations

from typing import Any

import bson
import zmq

from mapreduce.wire.curve import CurveKeys, as_client

_ANSWER_WITHIN_MS = 5_000


def takes_jobs(address: str, keys: CurveKeys | None = None) -> bool:
    """Whether the router at its request socket knows the jobs of the one before.

    Its address is known earlier. What is put among its records until then, it may take for a job to be resumed.
    """
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        as_client(socket, keys)
        socket.connect(address)
        socket.send(bson.encode({"$command": "jobs", "limit": 1}))
        if not socket.poll(_ANSWER_WITHIN_MS):
            return False
        answer: dict[str, Any] = bson.decode(socket.recv())
        return "error" not in answer
