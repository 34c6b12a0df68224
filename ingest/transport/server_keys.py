"""The ingester's side of CURVE: its own key, the senders it accepts, and the files of both.

`keys/ingest.curve` holds the ingester's key pair. Each file `*.curve` in `keys/ingest-clients` holds the keys of one
sender (see `ingest.transport.client_keys`); the ingester accepts only these. Added and removed files take effect with
the next connection. ZeroMQ asks by ZAP (RFC 27) whether a client may connect.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..exceptions import KeyFileError
from ..file_replacement import replace_file
from ..log_limit import LogLimit
from ..settings import ServerKeys
from .client_keys import checked, public_of, read_secret

log = logging.getLogger(__name__)

SUFFIX = ".curve"
OWN = "own"  # the sender name that the installation's own processes use
LOG_EVERY_S = 60.0  # time between two log lines about refused senders
_DOMAIN = "ingest"  # the ZAP domain of our sockets


def load_server_keys(path: Path, clients: Path) -> ServerKeys | None:
    """Return the keys in `path`, or None if there is no such file.

    Raise `KeyFileError` if the file holds no key or other users can read it.
    """
    if not path.exists():
        return None
    try:
        secret = str(read_secret(path)["secret"])
        public = public_of(secret)
    except (ValueError, KeyError) as error:
        raise KeyFileError(
            f"key file {path} holds no key ({error}): create it again with `manage.py curvekeys ingest --force`"
        ) from None
    return ServerKeys(public, secret, clients)


def allowed_senders(clients: Path) -> dict[str, str]:
    """Return the accepted senders, public key in Z85 -> name, as the files in `clients` are now."""
    found: dict[str, str] = {}
    for path in clients.glob(f"*{SUFFIX}"):
        try:
            public = checked(str(json.loads(path.read_text(encoding="utf-8"))["public"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("key file ignored path=%s error=%s", path, error)
        else:
            found[public] = path.stem
    return found


def make_server_keys(path: Path, clients: Path) -> ServerKeys:
    """Write a new key pair for the ingester, replacing any old one."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    keys = ServerKeys(public, secret, clients)
    _write(path, {"public": public, "secret": secret})
    return keys


def make_client_keys(keys: ServerKeys, name: str) -> Path:
    """Write a new key file for a sender, replacing any old one of that name, and return its path."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    path = keys.clients / f"{name}{SUFFIX}"
    _write(path, {"server": keys.public, "public": public, "secret": secret})
    return path


def _write(path: Path, content: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(path, json.dumps(content))


def as_server(socket: Any, keys: ServerKeys | None) -> None:
    """Accept only encrypted connections, which the context's `Authenticator` must permit. Call it before `bind`."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN.encode())


class Authenticator:
    """Decide which senders may connect to the server sockets of one context, in its own thread.

    Create it before the first `bind`; `close` it before the context is terminated. Without keys it does nothing.
    """

    def __init__(self, context: Any, keys: ServerKeys | None) -> None:
        self._thread: ThreadAuthenticator | None = None
        if keys is not None:
            self._keys = keys
            self._refused, self._log_limit = 0, LogLimit(LOG_EVERY_S)
            self._thread = ThreadAuthenticator(context)
            self._thread.configure_curve_callback(_DOMAIN, credentials_provider=self)
            self._thread.start()

    def close(self) -> None:
        """Stop accepting connections. Can be called twice."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the owner of a public key, in Z85, may connect. Called by pyzmq."""
        try:
            known = key.decode() in allowed_senders(self._keys.clients)
        except Exception:  # pyzmq's thread would end, and nobody could connect any more
            log.exception("sender refused: the key files cannot be read folder=%s", self._keys.clients)
            return False
        if not known:
            self._log_refusal(key.decode())
        return known

    def _log_refusal(self, key: str) -> None:
        """Log a refusal at most once in `LOG_EVERY_S`, because a refused sender may retry at once."""
        self._refused += 1
        if self._log_limit.allows():
            log.warning(
                "sender refused: no file has its public key key=%s folder=%s refused_since_last=%d",
                key, self._keys.clients, self._refused,
            )  # fmt: skip
            self._refused = 0
