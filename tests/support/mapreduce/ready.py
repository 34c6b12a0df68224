"""Find out whether a router that was just started is ready."""

from __future__ import annotations

from typing import Any

import bson
import zmq

from mapreduce.wire.curve import CurveKeys, as_client

_ANSWER_WITHIN_MS = 5_000


def takes_jobs(address: str, keys: CurveKeys | None = None) -> bool:
    """Return True once the router at `address` has loaded the job records of its predecessor.

    Its address is known earlier. A record written before that may be taken for a job to resume.
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
