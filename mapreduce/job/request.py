"""Parse requests of the request socket: a document in, a validated command out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mapreduce.exceptions import SpecError
from mapreduce.job import value_check
from mapreduce.job.basic_job import CallSpec, checked_call
from mapreduce.job.source_text import text_name
from mapreduce.job.spec import ANY_LABEL, JobSpec, Output, Source, new_job_id
from mapreduce.job.spec_check import checked_spec

COMMANDS = (
    "mapreduce", "xmapreduce", "basic", "submit", "status", "cancel", "jobs", "config", "echo", "terminate",
)  # fmt: skip
OUTSIDE_PREFIX = "zagg."
JOBS_SHOWN = 1_000
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
class SubmitRequest:
    """Start a job; with `wait` the reply is sent once the job has ended.

    If not `durable`, a crash of MongoDB can lose a record of its last tenth of a second; the client then resubmits.
    """

    spec: JobSpec | CallSpec
    wait: bool
    durable: bool = True


@dataclass(frozen=True)
class StatusRequest:
    """Ask for the status of a job: at once, or when it ends but after `wait_s` at the latest."""

    job_id: str
    wait_s: float


@dataclass(frozen=True)
class PlainRequest:
    """Any other command, with its document."""

    command: str
    document: Mapping[str, Any]


def parse(document: Mapping[str, Any], *, allow_source: bool = False) -> SubmitRequest | StatusRequest | PlainRequest:
    """Return the command in `document`. Raise `SpecError` naming the key, its value and what is allowed.

    Source text is refused unless `allow_source` is true.
    """
    command = document.get("$command")
    if not value_check.is_text(command) or command not in COMMANDS:
        raise SpecError(f"$command {value_check.shown(command)}: must be one of {', '.join(COMMANDS)}")
    for key in sorted(_SOURCE_TEXT & set(document)):
        if not allow_source:
            raise SpecError(f"{key}: source text is not allowed (zmr.allow_source is off); name a function instead")
    unknown = set(document) - _KNOWN[command]
    if unknown:
        known = ", ".join(sorted(_KNOWN[command] - {"$command"}))
        raise SpecError(f"{command}: unknown {', '.join(sorted(unknown))}; known are {known or 'none'}")
    if command == "status":
        return StatusRequest(
            _text(document, "job_id"), value_check.seconds("wait_s", document.get("wait_s", 0), zero=True)
        )
    if command == "basic":
        return SubmitRequest(_call(document), _truth(document, "wait"))
    if command == "submit":
        spec = JobSpec.from_document(value_check.mapping("spec", document.get("spec")))
        durable = _truth(document, "durable", missing=True)
        return SubmitRequest(checked_spec(spec, allow_source=allow_source), _truth(document, "wait"), durable)
    if command in ("mapreduce", "xmapreduce"):
        spec = _job(document, labelled=command == "xmapreduce")
        return SubmitRequest(checked_spec(spec, allow_source=allow_source), _truth(document, "wait"))
    if command == "cancel":
        _text(document, "job_id")
    if command == "jobs":
        value_check.whole("limit", document.get("limit", JOBS_SHOWN), JOBS_SHOWN)
    return PlainRequest(str(command), document)


def _job(document: Mapping[str, Any], *, labelled: bool) -> JobSpec:
    fields, stamp = document.get("fields"), document.get("stamp")
    source = Source(
        input_names=tuple(value_check.listed("input_names", document.get("input_names"))),
        map_name=_function(document, "map"),
        query=_mapping(document, "query"),
        fields=None if fields is None else tuple(value_check.listed("fields", fields)),
        id_key="_id" if document.get("id_key") is None else document["id_key"],
    )
    if stamp is not None and len(value_check.listed("stamp", stamp)) != 2:
        raise SpecError(f"stamp {value_check.shown(stamp)}: must be [from, to]")
    return JobSpec(
        job_id=new_job_id() if document.get("job_id") is None else document["job_id"],
        database=document.get("database"),  # type: ignore[arg-type] # `checked_spec` validates it
        sources=(source,),
        outputs=_outputs(document, labelled=labelled),
        reduce_name=_function(document, "reduce"),
        finalize_name=_function(document, "finalize"),
        id_min=document.get("id_min"),
        id_max=document.get("id_max"),
        params=_mapping(document, "params"),
        associative=_truth(document, "associative", missing=True),
        on_error=document.get("on_error", "fail"),
        stamp=None if stamp is None else (stamp[0], stamp[1]),
        reduce_count=document.get("reduce_count"),
        map_job_size=document.get("map_job_size"),
        split_limit_s=document.get("split_limit_s"),
    )


def _outputs(document: Mapping[str, Any], *, labelled: bool) -> dict[str, Output]:
    kind = document.get("output_type", "replace")
    if labelled and "outputs" in document:
        names = _mapping(document, "outputs")
    elif labelled:
        names = {ANY_LABEL: _text(document, "output_name")}
    else:
        names = {"": _text(document, "output_name")}
    for name in names.values():
        if not value_check.is_text(name) or not name.startswith(OUTSIDE_PREFIX):
            raise SpecError(f"output {value_check.shown(name)}: must be a collection below {OUTSIDE_PREFIX}")
    return {label: Output(name, kind) for label, name in names.items()}


def _call(document: Mapping[str, Any]) -> CallSpec:
    args = value_check.listed("args", document.get("args", []))
    job_id = _optional_text(document, "job_id") or new_job_id()
    return checked_call(
        _function(document, "func") or _text(document, "func_name"), args, _mapping(document, "kwargs"), job_id
    )


def _function(document: Mapping[str, Any], kind: str) -> str | None:
    """Return a function's name; with `<kind>_text`, `<kind>_name` is its name in that text (default: `<kind>`)."""
    if f"{kind}_text" not in document:
        return _optional_text(document, f"{kind}_name")
    return text_name(_optional_text(document, f"{kind}_name") or kind, _text(document, f"{kind}_text"))


def _text(document: Mapping[str, Any], key: str) -> str:
    return value_check.text(key, document.get(key))


def _optional_text(document: Mapping[str, Any], key: str) -> str | None:
    return None if document.get(key) is None else _text(document, key)


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return {} if found is None else dict(value_check.mapping(key, found))


def _truth(document: Mapping[str, Any], key: str, *, missing: bool = False) -> bool:
    return missing if document.get(key) is None else value_check.truth(key, document[key])
