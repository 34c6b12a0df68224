"""CURVE keys of programs that send events or subscribe to notices (ZeroMQ RFC 26, CurveZMQ).

A sender's key file holds the ingester's public key, by which the sender recognises the ingester, and the sender's own
key pair, by which the ingester recognises the sender. The ingester's side is `ingest.transport.server_keys`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from ..exceptions import KeyFileError

OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys that a sender needs, each 40 characters of text (Z85, ZeroMQ RFC 32)."""

    server: str  # public key of the ingester
    public: str  # the sender's own, like `secret`
    secret: str = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> ClientKeys:
        """Return the keys in `path`. Raise `KeyFileError` if it is missing, invalid or readable by other users."""
        content = read_secret(Path(path))
        try:
            secret = str(content["secret"])
            keys = cls(checked(str(content["server"])), public_of(secret), secret)
        except (ValueError, KeyError, TypeError) as error:
            raise KeyFileError(
                f"key file {path} holds no keys for a sender ({error}): copy it from `keys/ingest-clients` in the "
                "ingester's home folder"
            ) from None
        return keys


def as_client(socket: Any, keys: ClientKeys | None) -> None:
    """Require the ingester's key and present our own. Call it before `connect`; without keys it does nothing."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())


def public_of(secret: str) -> str:
    """Return the public key of a secret key. Raise `ValueError` if that is not a key."""
    try:
        return zmq.curve_public(secret.encode()).decode()
    except (zmq.ZMQError, UnicodeError):
        raise ValueError("the key is not valid") from None


def checked(public: str) -> str:
    """Return `public` if it has the form of a key, else raise `ValueError`."""
    public_of(public)  # which accepts any 32 bytes in Z85
    return public


def read_secret(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raise `KeyFileError` if it has none or anybody but the owner can read it."""
    try:
        mode = path.stat().st_mode
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise KeyFileError(f"key file {path} is not JSON: {error}") from None
    if mode & OTHERS:
        raise KeyFileError(f"key file {path} can be read by others: chmod 600 {path}")
    if not isinstance(content, dict):
        raise KeyFileError(f"key file {path} does not hold a JSON object")
    return content
