"""CURVE keys of programs that send events and listen to notices (ZeroMQ RFC 26, CurveZMQ).

A sender's key file names the ingester's public key, by which the sender knows that nobody else answers, and holds a
pair of its own, by which the ingester knows the sender. The ingester's side is `ingest.transport.server_keys`.
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
    """What a sender needs; each a text of 40 characters (Z85, ZeroMQ RFC 32)."""

    server: str  # public key of the ingester
    public: str
    secret: str = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> ClientKeys:
        """The keys in `path`. Raises `KeyFileError` when it is not there, holds none, or can be read by others."""
        content = read_secret(Path(path))
        try:
            secret = str(content["secret"])
            keys = cls(checked(str(content["server"])), public_of(secret), secret)
        except (ValueError, KeyError, TypeError) as error:
            raise KeyFileError(
                f"key file {path} holds no keys of a sender ({error}): copy it from `keys/ingest-clients` of the "
                "ingester's home folder"
            ) from None
        return keys


def as_client(socket: Any, keys: ClientKeys | None) -> None:
    """Before `connect`: demand the ingester's key, and show our own. Without keys the socket stays as it is."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())


def public_of(secret: str) -> str:
    """The public key of a secret one. Raises `ValueError` when it is none."""
    try:
        return zmq.curve_public(secret.encode()).decode()
    except (zmq.ZMQError, UnicodeError):
        raise ValueError("the secret key is none") from None


def checked(public: str) -> str:
    """`public`, when it has the form of a public key. Raises `ValueError`."""
    public_of(public)  # any 32 bytes in Z85 are taken
    return public


def read_secret(path: Path) -> dict[str, Any]:
    """The JSON object in a file that only its owner may read. Raises `KeyFileError`."""
    try:
        mode = path.stat().st_mode
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise KeyFileError(f"key file {path} is no JSON: {error}") from None
    if mode & OTHERS:
        raise KeyFileError(f"key file {path} can be read by others: chmod 600 {path}")
    if not isinstance(content, dict):
        raise KeyFileError(f"key file {path} holds no JSON object")
    return content
