"""The frames of requests to the acknowledged socket, and how other receivers use it.

A receiver that reads input itself, such as HTTP, names itself in an extra frame and forwards what it refused, so that
all refused input ends up in one quarantine together with the receiver it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bson
from bson.errors import BSONError

from .command_check import REFUSED, WHOLE_FIELDS
from .refusal import CUT, SIZES, Refusal, gathered, pieces_of, stands_for_several, unpacked

OWN_SOURCE = "ack"
MAX_SOURCE_CHARS = 32
_SOURCE_FRAME_BYTES = 1_024  # a longer frame is a document, however it starts, and is not decoded as a whole
_SOURCE_ELEMENT = b"\x02$source\x00"


@dataclass(frozen=True, slots=True)
class AckRequest:
    """One request to the acknowledged socket."""

    envelope: list[bytes]  # the frames that the reply must start with
    source: str  # name of the receiver that the input came from
    payload: bytes  # BSON documents, concatenated


def read_request(frames: Sequence[bytes], hops: int = 0) -> AckRequest | None:
    """Parse `[route, (empty,) request id, ({$source: name},) documents...]`; return None if no reply could be sent.

    Each of the `hops` load balancers on the way has prepended its own routing frame.
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
    return AckRequest(envelope, source or OWN_SOURCE, body[0] if len(body) == 1 else b"".join(body))


def source_frame(source: str) -> bytes:
    """Return the frame in which a receiver names itself."""
    return bson.encode({"$source": source})


def _source(frame: bytes) -> str | None:
    if frame[4 : 4 + len(_SOURCE_ELEMENT)] != _SOURCE_ELEMENT or len(frame) > _SOURCE_FRAME_BYTES:
        return None
    try:
        name = bson.decode(frame)["$source"]
    except (BSONError, RecursionError):
        return None
    return name[:MAX_SOURCE_CHARS] if type(name) is str else None  # $source may be repeated; bson.Code is a str


def refused_document(refusal: Refusal, id_: str = "") -> bytes:
    """Return a refusal encoded as one of the documents of a request, which is known by `id_` if it is sent again."""
    refusal = refusal.shortened()  # input as large as a message could not be forwarded in one
    document: dict[str, Any] = {
        "$command": REFUSED,
        "code": refusal.code,
        "message": refusal.message,
        "raw": refusal.raw,
    }
    if refusal.whole:
        document |= {"bytes": refusal.whole[0], "sha256": refusal.whole[1]}
    if id_:
        document["id"] = id_
    return bson.encode(document | ({"count": refusal.count} if refusal.count > 1 else {}) | refusal.joining())


def refusals(commands: Iterable[Mapping[str, Any]]) -> list[Refusal]:
    """Return the refusals among the commands of a request, which were checked already, with alike ones joined."""
    return gathered(map(_refusal, (command for command in commands if command["$command"] == REFUSED)))


def _refusal(command: Mapping[str, Any]) -> Refusal:
    """Return a refusal that was forwarded; where its pieces cannot be told apart as it says, it counts as cut."""
    found = Refusal(command["code"], command["message"][:1000], bytes(command["raw"]), 0, command.get("count", 1))
    if WHOLE_FIELDS[0] in command:
        return replace(found, whole=(int(command["bytes"]), command["sha256"]))
    if not stands_for_several(command):
        return found
    if pieces_of(command) is None:
        return replace(found, joined=CUT)
    sizes = unpacked(command["sizes"]) if command["joined"] == SIZES else ()
    return replace(found, joined=command["joined"], sizes=sizes)
