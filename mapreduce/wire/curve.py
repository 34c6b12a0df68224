"""CURVE keys of the engine's sockets, and the authenticator that accepts only their owners.

Router, workers and clients of one installation share one key pair (ZeroMQ RFC 26, CurveZMQ; RFC 27, ZAP): a socket
that binds proves that it has the key, and accepts connections only from that same key.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from mapreduce.exceptions import SpecError
from mapreduce.settings import CurveKeys

_DOMAIN = "zmr"  # ZAP domain of our sockets
_MODE = 0o600


def make_keys() -> CurveKeys:
    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode(), secret.decode())


def load_keys(path: Path) -> CurveKeys | None:
    """Return the keys in `path`; None without such a file. Raise `SpecError` if it is invalid or readable by others."""
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise SpecError(f"key file {path} can be read by others: chmod 600 {path}")
    try:
        content = json.loads(text)
        keys = CurveKeys(zmq.curve_public(str(content["secret"]).encode()).decode(), str(content["secret"]))
    except (ValueError, KeyError, TypeError, zmq.ZMQError) as error:
        raise SpecError(
            f"key file {path} holds no CURVE keys ({error}): make it again with curvekeys --force"
        ) from None
    return keys


def write_keys(path: Path, keys: CurveKeys, *, replace: bool = False) -> None:
    """Write `path` with mode 0600. Raise `SpecError` if it exists and `replace` is false."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and not replace:
        raise SpecError(f"{path} exists already: every process that uses it would be locked out (--force replaces it)")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"public": keys.public, "secret": keys.secret}, file)
    temporary.replace(path)


def as_server(socket: Any, keys: CurveKeys | None) -> None:
    """Accept only encrypted connections, whose keys the context's `Authenticator` checks. Call before `bind`."""
    if keys is not None:
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())
        socket.set(zmq.ZAP_DOMAIN, _DOMAIN.encode())


def as_client(socket: Any, keys: CurveKeys | None) -> None:
    """Require the shared key from the server, and present our own. Call before `connect`."""
    if keys is not None:
        socket.set(zmq.CURVE_SERVERKEY, keys.public.encode())
        socket.set(zmq.CURVE_PUBLICKEY, keys.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())


class Authenticator:
    """Check the keys of clients that connect to the server sockets of one context, in a separate thread.

    Create it before the first `bind` and `close` it before terminating the context. Without keys it does nothing.
    """

    def __init__(self, context: Any, keys: CurveKeys | None) -> None:
        self._asked: ThreadAuthenticator | None = None
        if keys is not None:
            self._allowed = keys.public.encode()
            self._asked = ThreadAuthenticator(context)
            self._asked.configure_curve_callback(_DOMAIN, credentials_provider=self)
            self._asked.start()

    def callback(self, domain: str, key: bytes) -> bool:
        """Return True if the owner of this public key, in Z85, may connect. Called by pyzmq."""
        return key == self._allowed

    def close(self) -> None:
        """Stop accepting new connections. Can be called twice."""
        if self._asked is not None:
            self._asked.stop()
            self._asked = None
