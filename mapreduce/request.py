"""Reads requests of the request socket: a document in, a checked command out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapreduce.call import CallSpec, checked_call
from mapreduce.exceptions import SpecError
from mapreduce.source_text import text_name
from mapreduce.spec import ANY_LABEL, JobSpec, Output, Source, new_job_id

COMMANDS = (
    "mapreduce", "xmapreduce", "basic", "submit", "status", "cancel", "jobs", "config", "echo", "terminate",
)  # fmt: skip
OUTSIDE_PREFIX = "zagg."
_SOURCE_TEXT = {"map_text", "reduce_text", "finalize_text", "func_text"}
_COMMON = {"$command", "job_id", "wait"}
_JOB = _COMMON | {
    "database", "input_names", "query", "id_min", "id_max", "id_key", "fields", "output_name", "output_type",
    "map_name", "reduce_name", "finalize_name", "params", "associative", "on_error", "stamp", "reduce_count",
    "map_job_size", "split_limit_s", "map_text", "reduce_text", "finalize_text",
}  # fmt: skip
_KNOWN: dict[str, set[str]] = {
    "mapreduce": _JOB,
    "xmapreduce": _JOB | {"outputs"},
    "basic": _COMMON | {"func_name", "func_text", "args", "kwargs"},
    "submit": _COMMON | {"spec", "durable"},
    "status": {"$command", "job_id", "wait_s"},
    "cancel": {"$command", "job_id"},
    "jobs": {"$command", "limit"},
    "config": {"$command"},
    "echo": {"$command", "value"},
    "terminate": {"$command"},
}


@dataclass(frozen=True)
class Submit:
    """Start a job; with `wait` the answer comes when it has ended.

    Not `durable`: its record may be lost with MongoDB's last tenth of a second, and the client submits it again then.
    """

    spec: JobSpec | CallSpec
    wait: bool
    durable: bool = True


@dataclass(frozen=True)
class Ask:
    """The status of a job, at once or as soon as it has ended within `wait_s`."""

    job_id: str
    wait_s: float


@dataclass(frozen=True)
class Plain:
    """One of the other commands, with its document."""

    command: str
    document: Mapping[str, Any]


def parse(document: Mapping[str, Any], *, allow_source: bool = False) -> Submit | Ask | Plain:
    """The command in `document`. Raises `SpecError` that names the key, its value and what is allowed.

    Source text is taken with `allow_source` only.
    """
    command = document.get("$command")
    if command not in COMMANDS:
        raise SpecError(f"$command {command!r}: allowed are {', '.join(COMMANDS)}")
    for key in sorted(_SOURCE_TEXT & set(document)):
        if not allow_source:
            raise SpecError(f"{key}: source text is not taken (zmr.allow_source is off); name a function instead")
    unknown = set(document) - _KNOWN[command]
    if unknown:
        known = ", ".join(sorted(_KNOWN[command] - {"$command"}))
        raise SpecError(f"{command}: unknown {', '.join(sorted(unknown))}; known are {known or 'none'}")
    if command == "status":
        return Ask(_text(document, "job_id"), _seconds(document.get("wait_s", 0)))
    if command == "basic":
        return Submit(_call(document), bool(document.get("wait")))
    if command == "submit":
        spec = document.get("spec")
        if not isinstance(spec, Mapping):
            raise SpecError("submit: spec has to be a job description")
        durable = bool(document.get("durable", True))
        return Submit(JobSpec.from_document(spec).checked(), bool(document.get("wait")), durable)
    if command in ("mapreduce", "xmapreduce"):
        return Submit(_job(document, labelled=command == "xmapreduce"), bool(document.get("wait")))
    return Plain(str(command), document)


def _job(document: Mapping[str, Any], *, labelled: bool) -> JobSpec:
    names = document.get("input_names")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise SpecError(f"input_names {names!r}: allowed is a list of names of collections")
    source = Source(
        input_names=tuple(names),
        map_name=_function(document, "map"),
        query=_mapping(document, "query"),
        fields=None if document.get("fields") is None else tuple(str(name) for name in document["fields"]),
        id_key=_optional_text(document, "id_key") or "_id",
    )
    stamp = document.get("stamp")
    if stamp is not None and not (isinstance(stamp, list) and len(stamp) == 2):
        raise SpecError(f"stamp {stamp!r}: allowed is [from, to]")
    return JobSpec(
        job_id=_optional_text(document, "job_id") or new_job_id(),
        database=_text(document, "database"),
        sources=(source,),
        outputs=_outputs(document, labelled=labelled),
        reduce_name=_function(document, "reduce"),
        finalize_name=_function(document, "finalize"),
        id_min=document.get("id_min"),
        id_max=document.get("id_max"),
        params=_mapping(document, "params"),
        associative=bool(document.get("associative", True)),
        on_error=document.get("on_error", "fail"),
        stamp=None if stamp is None else (stamp[0], stamp[1]),
        reduce_count=_whole(document, "reduce_count"),
        map_job_size=_whole(document, "map_job_size"),
        split_limit_s=None if document.get("split_limit_s") is None else _seconds(document["split_limit_s"]),
    ).checked()


def _outputs(document: Mapping[str, Any], *, labelled: bool) -> dict[str, Output]:
    kind = document.get("output_type", "replace")
    if labelled and "outputs" in document:
        names = {str(label): name for label, name in _mapping(document, "outputs").items()}
    elif labelled:
        names = {ANY_LABEL: _text(document, "output_name")}
    else:
        names = {"": _text(document, "output_name")}
    for name in names.values():
        if not isinstance(name, str) or not name.startswith(OUTSIDE_PREFIX):
            raise SpecError(f"output {name!r}: allowed are collections below {OUTSIDE_PREFIX}")
    return {label: Output(name, kind) for label, name in names.items()}


def _call(document: Mapping[str, Any]) -> CallSpec:
    args = document.get("args", [])
    if not isinstance(args, list):
        raise SpecError(f"args {args!r}: allowed is a list")
    job_id = _optional_text(document, "job_id") or new_job_id()
    return checked_call(
        _function(document, "func") or _text(document, "func_name"), args, _mapping(document, "kwargs"), job_id
    )


def _function(document: Mapping[str, Any], kind: str) -> str | None:
    """The name of a function; beside a text, `<kind>_name` says how it is called there (by default `<kind>`)."""
    if f"{kind}_text" not in document:
        return _optional_text(document, f"{kind}_name")
    return text_name(_optional_text(document, f"{kind}_name") or kind, _text(document, f"{kind}_text"))


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise SpecError(f"{key} {value!r}: allowed is a string that is not empty")
    return value


def _optional_text(document: Mapping[str, Any], key: str) -> str | None:
    return None if document.get(key) is None else _text(document, key)


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise SpecError(f"{key} {value!r}: allowed is a document")
    return dict(value or {})


def _whole(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise SpecError(f"{key} {value!r}: allowed is a whole number")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86_400:
        raise SpecError(f"{value!r}: allowed is a number of seconds from 0 to 86400")
    return float(value)
