"""Messages between router, workers and executors: frames `[BSON header, payload...]`.

The header's `t` is the kind of message. Versions are compared only in a worker's `hello`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import NoneType
from typing import Any

from mapreduce.codec import decode, encode
from mapreduce.exceptions import SpecError, VersionRefusedError

PROTOCOL = 6

HELLO, BEAT, READY, PROGRESS, DONE, FAILED, BROKEN, BYE = (
    "hello", "beat", "ready", "progress", "done", "failed", "broken", "bye",
)  # fmt: skip
WELCOME, REFUSED, TASK, ABORT, FORGET, STALE = "welcome", "refused", "task", "abort", "forget", "stale"


def pack(kind: str, header: dict[str, Any], *payload: bytes) -> list[bytes]:
    """Return the frames of a message."""
    return [encode({"t": kind, **header}), *payload]


def unpack(frames: Sequence[bytes]) -> tuple[str, dict[str, Any], Sequence[bytes]]:
    """Return kind, header and payload. Raise one of `codec.NOT_BSON`, `KeyError` or `IndexError` for anything else."""
    header = decode(frames[0])
    return str(header["t"]), header, frames[1:]


MOST_COUNT = 2**48  # of documents, bytes and whatever else is counted: sums of many stay below what BSON can hold
_COUNT = f"a whole number from 0 to {MOST_COUNT}"
MOST_CHARACTERS = 1_000  # of names, addresses, ids and reasons: the router keeps, logs and records them
_TEXT = f"text of at most {MOST_CHARACTERS} characters"
_FROM_WORKER: dict[str, dict[str, Any]] = {
    HELLO: {"name": _TEXT, "slots": _COUNT, "idle": _COUNT, "spare": _COUNT, "data_uri": _TEXT, "held": list},
    BEAT: {"idle": _COUNT, "spare": _COUNT, "running": list},
    PROGRESS: {"job": _TEXT, "attempt": _TEXT, "docs": _COUNT, "phase": (str, NoneType)},
    DONE: {"job": _TEXT, "attempt": _TEXT, "result": dict, "held": (dict, NoneType)},
    FAILED: {"job": _TEXT, "attempt": _TEXT, "error": dict},
    BROKEN: {"job": _TEXT, "attempt": _TEXT, "why": _TEXT},
}
_FROM_ROUTER: dict[str, dict[str, Any]] = {
    WELCOME: {"epoch": str},
    REFUSED: {"error": dict},
    TASK: {
        "attempt": str,
        "job": str,
        "kind": str,
        "index": _COUNT,
        "spec": bytes,
        "say_s": (float, int),
        "store": (dict, NoneType),
        "elsewhere": bool,
    },
    ABORT: {"attempt": str},
    FORGET: {"job": str},
    BEAT: {"epoch": str, "known": bool},
}
_MAP_OUTPUT_REQUEST = {"n": _COUNT, "job": _TEXT, "attempt": _TEXT, "offset": _COUNT, "length": _COUNT}
_PHASES = (None, "map", "reduce", "finalize", "commit")
_HELD = {
    "split": _COUNT, "attempt": _TEXT, "path": (str, NoneType), "segments": bytes, "length": _COUNT, "docs_in": _COUNT,
    "pairs_out": _COUNT, "skipped_count": _COUNT, "skipped_ids": list, "span": (dict, NoneType),
}  # fmt: skip


def check_from_worker(kind: str, header: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless `header` is valid in a message of this kind from a worker."""
    _check_header(kind, header, _FROM_WORKER.get(kind, {}))
    held = header["held"] if kind == HELLO else [header["held"]] if kind == DONE and header["held"] else ()
    for item in held:
        if not isinstance(item, dict):
            raise SpecError(f"{kind}: held {item!r:.100}: must be documents")
        _check_header(f"held of {kind}", item, _HELD if kind == DONE else {"job": _TEXT, **_HELD})
    if kind == PROGRESS and header["phase"] not in _PHASES:
        raise SpecError(f"{kind}: phase {header['phase']!r:.100}: must be one of {_PHASES}")
    if kind == BEAT and not all(isinstance(attempt, str) for attempt in header["running"]):
        raise SpecError(f"{kind}: running {header['running']!r:.100}: must be ids of attempts")


def check_from_router(kind: str, header: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless `header` is valid in a message of this kind from the router."""
    _check_header(kind, header, _FROM_ROUTER.get(kind, {}))


def check_map_output_request(header: Mapping[str, Any]) -> None:
    """Raise `SpecError` unless `header` is a valid request for a piece of map output."""
    _check_header("request", header, _MAP_OUTPUT_REQUEST)


def is_count(found: Any) -> bool:
    """Return whether a value is a number of documents, bytes or the like."""
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MOST_COUNT


def _check_header(kind: str, header: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, wanted in fields.items():
        found = header.get(name)
        if wanted is _TEXT:
            valid = isinstance(found, str) and len(found) <= MOST_CHARACTERS
        else:
            valid = is_count(found) if wanted is _COUNT else isinstance(found, wanted)
        if not valid:
            raise SpecError(f"{kind}: {name} {found!r:.100}: must be {wanted}")


def versions() -> dict[str, Any]:
    """Return the versions that must be equal on router and workers."""
    try:
        release = version("zarkov")
    except PackageNotFoundError:
        release = "unpacked"  # running from a checkout
    return {"protocol": PROTOCOL, "zarkov": release, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


def check_versions(worker: Any, theirs: Any) -> None:
    """Raise `VersionRefusedError` if `theirs` differs from `versions()`, or is malformed."""
    ours = versions()
    theirs = theirs if isinstance(theirs, dict) else {}
    differing = [
        f"{name} {theirs.get(name)!r:.100} (router: {ours[name]!r})" for name in ours if theirs.get(name) != ours[name]
    ]
    if differing:
        raise VersionRefusedError(
            f"worker {worker!r:.100} has {', '.join(differing)}: install the same version on both",
            {"worker": theirs, "router": ours},
        )
