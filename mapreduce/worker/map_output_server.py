"""The socket at which a worker serves map output to the executors of other workers."""

from __future__ import annotations

import socket as sockets
from typing import Any
from urllib.parse import urlsplit

import zmq

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import OutputGoneError, SpecError
from mapreduce.settings import EngineSettings
from mapreduce.wire import message
from mapreduce.wire.curve import as_server
from mapreduce.wire.message_reader import MessageReader
from mapreduce.worker.fetch import AHEAD, PIECE_BYTES
from mapreduce.worker.map_output_store import MapOutputStore

_HIGH_WATER = 2 * AHEAD  # answers per peer: twice, as ZeroMQ notices only later that some have left; then it drops them
_REQUEST_BYTES = 64 * 2**10
_LINGER_MS = 500
_FRAMES = 2  # of a message: who asks, and what
_PIECES = 100  # answered per call


class MapOutputServer:
    """Answer requests `{n, job, attempt, offset, length}` with a piece of map output.

    Belongs to the worker's thread.
    """

    def __init__(self, context: zmq.Context[Any], settings: EngineSettings, map_outputs: MapOutputStore) -> None:
        self.socket: Any = context.socket(zmq.ROUTER)
        self._settings = settings
        self._map_outputs = map_outputs
        self._reader = MessageReader()
        as_server(self.socket, settings.curve)
        self.socket.set(zmq.LINGER, _LINGER_MS)
        self.socket.set_hwm(_HIGH_WATER)
        self.socket.set(zmq.MAXMSGSIZE, _REQUEST_BYTES)

    def bind(self) -> str:
        """Bind the socket and return the address at which others reach it. Raise `SpecError` if it cannot be bound."""
        address = f"{self._settings.worker_interface}:{self._settings.src_port or '*'}"
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            raise SpecError(f"worker socket {address} cannot be bound: {error.strerror}; set zmr.src_port") from None
        bound = str(self.socket.getsockopt_string(zmq.LAST_ENDPOINT))
        if "//0.0.0.0:" in bound:
            bound = bound.replace("0.0.0.0", _own_address(self._settings.worker_uri()))
        return bound

    def serve(self) -> None:
        """Answer requests that have arrived: at most 100 pieces per call, each of limited size."""
        for _ in range(_PIECES):
            frames = self._reader.read(self.socket)
            if frames is None:
                return
            if len(frames) != _FRAMES:
                continue
            header, data = self._answer(frames[1])
            self.socket.send_multipart([frames[0], encode(header), data])

    def _answer(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        asked: dict[str, Any] = {}
        try:
            found = decode(body)
            message.check_map_output_request(found)
            asked = found
            length = min(asked["length"], PIECE_BYTES)
            data = self._map_outputs.read(asked["job"], asked["attempt"], asked["offset"], length)
            return {"n": asked["n"], "ok": True}, data
        except OutputGoneError as error:
            return {"n": asked.get("n"), "ok": False, "why": error.message}, b""
        except (SpecError, *NOT_BSON, OSError, RecursionError) as error:
            why = f"the request cannot be read: {type(error).__name__}: {error}"
            return {"n": asked.get("n"), "ok": False, "why": why}, b""

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def _own_address(router_uri: str) -> str:
    """Return this machine's address on the route to the router (connecting a datagram socket sends nothing)."""
    target = urlsplit(router_uri)
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as probe:
        probe.connect((target.hostname or "127.0.0.1", target.port or 9))
        return str(probe.getsockname()[0])
