"""The ingester's side of CURVE: its own key, whose keys it lets in, and the files of both.

`keys/ingest.curve` holds the ingester's pair. Every file `*.curve` in `keys/ingest-clients` is a sender's (see
`ingest.curve`); the ingester lets in who shows a public key of one of them. A file that is added or removed counts from
the next connection on. ZAP, by which ZeroMQ asks who may connect, is RFC 27.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..exceptions import KeyFileError
from ..settings import ServerKeys
from .client_keys import ClientKeys, checked, public_of, read_secret

log = logging.getLogger(__name__)

SUFFIX = ".curve"
OWN = "own"  # the sender that stands for the installation's own processes
SAY_EVERY_S = 60.0
_DOMAIN = "ingest"  # what ZeroMQ calls our sockets when it asks the gate
_MODE = 0o600


def load_server_keys(path: Path, clients: Path) -> ServerKeys | None:
    """Return the key in `path`, or None without such a file.

    Raises `KeyFileError` if the file holds no key or others can read it.
    """
    if not path.exists():
        return None
    try:
        secret = str(read_secret(path)["secret"])
        public = public_of(secret)
    except (ValueError, KeyError) as error:
        raise KeyFileError(
            f"key file {path} holds no key ({error}): make it again with `manage.py curvekeys ingest --force`"
        ) from None
    return ServerKeys(public, secret, clients)


def allowed_senders(clients: Path) -> dict[str, str]:
    """Return the name of each sender that is let in by its public key in Z85, as the files in `clients` are now."""
    found: dict[str, str] = {}
    for path in clients.glob(f"*{SUFFIX}"):
        try:
            public = checked(str(json.loads(path.read_text(encoding="utf-8"))["public"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("key file %s is passed over: %s", path, error)
        else:
            found[public] = path.stem
    return found


def make_server_keys(path: Path, clients: Path) -> ServerKeys:
    """Write a new key of the ingester, in place of any old one."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    keys = ServerKeys(public, secret, clients)
    _write(path, {"public": public, "secret": secret})
    return keys


def make_client_keys(keys: ServerKeys, name: str) -> Path:
    """Write a sender's key file, in place of any old one of that name, and return its path."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    client = ClientKeys(keys.public, public, secret)
    path = keys.clients / f"{name}{SUFFIX}"
    _write(path, {"server": client.server, "public": client.public, "secret": client.secret})
    return path


def _write(path: Path, content: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    temporary.replace(path)


def as_server(socket: Any, keys: ServerKeys | None) -> None:
    """Before `bind`: take only encrypted connections. A `Gate` of the same context decides whose."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN.encode())


class Authenticator:
    """Answers ZeroMQ's questions about who may connect to the server sockets of one context, in a thread of its own.

    Open it before the first `bind`; `close` it before the context is ended. Without keys it does nothing.
    """

    def __init__(self, context: Any, keys: ServerKeys | None) -> None:
        self._asked: ThreadAuthenticator | None = None
        if keys is not None:
            self._keys = keys
            self._refused, self._say_at = 0, 0.0
            self._asked = ThreadAuthenticator(context)
            self._asked.configure_curve_callback(_DOMAIN, credentials_provider=self)
            self._asked.start()

    def close(self) -> None:
        """Let nobody in any more. May be called twice."""
        if self._asked is not None:
            self._asked.stop()
            self._asked = None

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of a public key, in Z85, is let in. Called by pyzmq."""
        known = key.decode() in allowed_senders(self._keys.clients)
        if not known:
            self._say(key.decode())
        return known

    def _say(self, key: str) -> None:
        """Now and then, as a sender that is refused may try again at once."""
        self._refused += 1
        if (now := time.monotonic()) >= self._say_at:
            log.warning(
                "a sender with the public key %s was refused (%d since this was said last): it is in no file of %s",
                key, self._refused, self._keys.clients,
            )  # fmt: skip
            self._refused, self._say_at = 0, now + SAY_EVERY_S
