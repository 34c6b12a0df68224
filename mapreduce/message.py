"""What router, worker hosts and executors say to each other: frames `[BSON header, payload...]`.

The header's `t` is the kind of message. Versions are compared when a worker says hello, and not afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mapreduce.codec import decode, encode
from mapreduce.exceptions import VersionRefusedError

PROTOCOL = 3

HELLO, BEAT, READY, PROGRESS, DONE, FAILED, BROKEN, BYE = (
    "hello", "beat", "ready", "progress", "done", "failed", "broken", "bye",
)  # fmt: skip
WELCOME, REFUSED, TASK, ABORT, FORGET, STALE = "welcome", "refused", "task", "abort", "forget", "stale"


def pack(kind: str, header: dict[str, Any], *payload: bytes) -> list[bytes]:
    """The frames of a message."""
    return [encode({"t": kind, **header}), *payload]


def unpack(frames: Sequence[bytes]) -> tuple[str, dict[str, Any], Sequence[bytes]]:
    """Kind, header and payload. Raises one of `codec.NOT_BSON`, or `KeyError`, for what is no message."""
    header = decode(frames[0])
    return str(header["t"]), header, frames[1:]


def versions() -> dict[str, Any]:
    """What has to be equal on router and workers."""
    try:
        release = version("zarkov")
    except PackageNotFoundError:
        release = "unpacked"  # run from a checkout
    return {"protocol": PROTOCOL, "zarkov": release, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


def demand_versions(worker: str, theirs: dict[str, Any]) -> None:
    """Raise `VersionRefusedError` when a worker differs in one of `versions`."""
    ours = versions()
    differing = [
        f"{name} {theirs.get(name)!r} (router: {ours[name]!r})" for name in ours if theirs.get(name) != ours[name]
    ]
    if differing:
        raise VersionRefusedError(
            f"worker {worker} has {', '.join(differing)}: install the same version on both",
            {"worker": theirs, "router": ours},
        )
