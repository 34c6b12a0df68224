"""Requests of the acknowledged socket: which frames they have, and what other doors tell through it.

A door that reads input itself, such as HTTP, names itself in a frame of its own and hands on what it refused, so that
all refused input ends in one quarantine with the door that it came through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

from .refusal import CODES, Refusal

REFUSED = "refused"
OWN_SOURCE = "ack"
MAX_SOURCE_CHARS = 32
_SOURCE_ELEMENT = b"\x02$source\x00"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `envelope` is what the reply begins with, `payload` documents one after the other."""

    envelope: list[bytes]
    source: str
    payload: bytes


def read_request(frames: Sequence[bytes], hops: int = 0) -> Request | None:
    """Sort `[route, (empty,) request id, ({$source: name},) documents...]`; None when nobody could be answered.

    Each of the `hops` on the way put a routing frame of its own in front.
    """
    route = hops + 1
    if len(frames) > route + 1 and frames[route] == b"":  # a REQ socket sends an empty delimiter
        route += 1
    if len(frames) <= route:
        return None
    envelope, body = list(frames[: route + 1]), frames[route + 1 :]
    source = _source(body[0]) if len(body) > 1 else None
    if source is not None:
        body = body[1:]
    return Request(envelope, source or OWN_SOURCE, body[0] if len(body) == 1 else b"".join(body))


def source_frame(source: str) -> bytes:
    """The frame in which a door names itself."""
    return bson.encode({"$source": source})


def _source(frame: bytes) -> str | None:
    if frame[4 : 4 + len(_SOURCE_ELEMENT)] != _SOURCE_ELEMENT:
        return None
    try:
        name = bson.decode(frame)["$source"]
    except (BSONError, RecursionError):
        return None
    return name[:MAX_SOURCE_CHARS] if type(name) is str else None  # the last of several elements; code is a str too


def refused_document(refusal: Refusal) -> bytes:
    """A refusal as a document among those of a request."""
    return bson.encode({"$command": REFUSED, "code": refusal.code, "message": refusal.message, "raw": refusal.raw})


def refusals(commands: Iterable[Mapping[str, Any]]) -> list[Refusal]:
    """The refusals among the commands of a request; what is none is passed over."""
    return [
        Refusal(command["code"], command["message"][:1000], bytes(command["raw"]))
        for command in commands
        if command["$command"] == REFUSED and _is_refusal(command)
    ]


def _is_refusal(command: Mapping[str, Any]) -> bool:
    code = command.get("code")
    texts = type(code) is str and type(command.get("message")) is str
    return texts and code in CODES and isinstance(command.get("raw"), bytes)
