"""Job descriptions and job status: frozen values that cross the wire and are stored in job records."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import CodeChangedError, SpecError
from mapreduce.job import value_check

OutputType = Literal["replace", "merge", "reduce"]
ANY_LABEL = "*"  # matches every label that a map yields

READY, QUERY, MAP, REDUCE, FINALIZE, COMMIT = "ready", "query", "map", "reduce", "finalize", "commit"
COMPLETE, ERROR, CANCELLED, UNKNOWN = "complete", "error", "cancelled", "UNKNOWN"
RUNNING_STATES = (READY, QUERY, MAP, REDUCE, FINALIZE, COMMIT)
END_STATES = (COMPLETE, ERROR, CANCELLED)


def new_job_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Source:
    """Documents that a job reads, and the map that they go through."""

    input_names: tuple[str, ...]  # collections, read one after the other; partitions in rising order of id
    map_name: str | None = None  # `module:qualname`; None = documents are `{_id: key, value: value}` already
    query: Mapping[str, Any] = field(default_factory=dict)  # MongoDB filter, in addition to the range of ids
    fields: tuple[str, ...] | None = None  # projection; None = whole documents
    id_key: str = "_id"  # indexed key by which the input is cut into splits
    database: str | None = None  # None = the database of the job


@dataclass(frozen=True)
class Output:
    """A collection for results. A `*` in its name (for label `*` only) is replaced by the label that the map yields."""

    collection: str  # below `zagg.`, or `zgen.` for generations
    output_type: OutputType = "merge"


@dataclass(frozen=True)
class JobSpec:
    """One map-reduce job. The constructor validates nothing; `spec_check` refuses what no engine would run."""

    database: str  # of inputs and outputs
    sources: tuple[Source, ...]  # several sources feed one shuffle
    outputs: Mapping[str, Output]  # `{"": output}` if the map yields pairs; by label, or `*`, if it yields {c, k, v}
    reduce_name: str | None = None  # `module:qualname`; None = each key has one value
    finalize_name: str | None = None  # `module:qualname`; None = the value is the reduced value
    job_id: str = field(default_factory=new_job_id)  # submitting the same id again does not start a second job
    id_min: Any = None  # lower bound of ids, exclusive; None = no bound
    id_max: Any = None  # upper bound of ids, inclusive; None = no bound
    params: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of classes whose methods are named
    associative: bool = True  # True = splits are combined early and increments merged
    on_error: Literal["fail", "skip"] = "fail"  # what to do if the map fails on a document
    stamp: tuple[Any, Any] | None = None  # `(from, to)` of output_type reduce; written documents get `through = to`
    reduce_count: int | None = None  # reduce partitions; None = as the settings say
    map_job_size: int | None = None  # documents per split; None = as the settings say
    split_limit_s: float | None = None  # longest time for one split or partition; None = as the settings say
    code: Mapping[str, str] = field(default_factory=dict)  # sha256 of the source by module; empty = current

    def function_names(self) -> tuple[str, ...]:
        """Return every function that the job names, each once, in a stable order."""
        names = [source.map_name for source in self.sources] + [self.reduce_name, self.finalize_name]
        return tuple(dict.fromkeys(name for name in names if name))

    def labelled(self) -> bool:
        """Return True if the map yields `{c, k, v}` for several outputs."""
        return set(self.outputs) != {""}

    def output(self, label: str) -> Output:
        """Return the output for a label that the map yielded. Raise `SpecError` if the job has none."""
        if label in self.outputs:
            return self.outputs[label]
        pattern = self.outputs.get(ANY_LABEL)
        if pattern is None or not value_check.is_label(label):
            known = ", ".join(sorted(self.outputs)) or "none"
            raise SpecError(f"the map yielded c = {label!r}, which is not an output of this job; outputs: {known}")
        return replace(pattern, collection=pattern.collection.replace("*", label))

    def with_code(self, versions: Mapping[str, str]) -> JobSpec:
        """Return this spec with the versions of its modules. Raise `CodeChangedError` if it demands other versions."""
        for module, version in self.code.items():
            if versions.get(module, version) != version:
                raise CodeChangedError(
                    f"module {module} is in version {versions[module][:12]} now, but the job wants {version[:12]}: "
                    "plan it again",
                    {"module": module, "here": versions[module], "wanted": version},
                )
        return replace(self, code={**versions, **self.code})

    def digest(self) -> str:
        """Return a sha256 that is equal for equal jobs; it ignores job id and code versions."""
        document = self.to_document()
        del document["job_id"], document["code"]
        return hashlib.sha256(encode(document)).hexdigest()

    def to_document(self) -> dict[str, Any]:
        """Return the BSON-able form, from which `from_document` makes an equal spec."""
        return {
            "job_id": self.job_id,
            "database": self.database,
            "sources": [
                {
                    "input_names": list(source.input_names),
                    "map_name": source.map_name,
                    # Bytes, because MongoDB can refuse keys such as `$gt`, and because the order of keys matters.
                    "query": encode(source.query),
                    "fields": None if source.fields is None else list(source.fields),
                    "id_key": source.id_key,
                    "database": source.database,
                }
                for source in self.sources
            ],
            # A list, because collection names and labels contain dots.
            "outputs": [
                {"label": label, "collection": output.collection, "output_type": output.output_type}
                for label, output in self.outputs.items()
            ],
            "reduce_name": self.reduce_name,
            "finalize_name": self.finalize_name,
            "id_min": self.id_min,
            "id_max": self.id_max,
            "params": encode(self.params),
            "associative": self.associative,
            "on_error": self.on_error,
            "stamp": None if self.stamp is None else list(self.stamp),
            "reduce_count": self.reduce_count,
            "map_job_size": self.map_job_size,
            "split_limit_s": self.split_limit_s,
            "code": [[module, version] for module, version in sorted(self.code.items())],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> JobSpec:
        """Return the spec that `to_document` described. Raise `SpecError` if its shape is wrong."""
        try:
            values = dict(document)
            values["sources"] = tuple(_source(item) for item in value_check.listed("sources", values["sources"]))
            values["outputs"] = {
                _label(item["label"]): Output(item["collection"], item["output_type"]) for item in values["outputs"]
            }
            values["params"] = decode(values["params"])
            values["stamp"] = None if values["stamp"] is None else tuple(value_check.listed("stamp", values["stamp"]))
            values["code"] = {str(module): str(version) for module, version in values["code"]}
            return cls(**values)
        except (KeyError, IndexError, *NOT_BSON) as error:
            raise SpecError(f"not a job description: {type(error).__name__}: {error}") from None


def _source(item: Mapping[str, Any]) -> Source:
    return Source(
        input_names=tuple(value_check.listed("input_names", item["input_names"])),
        map_name=item["map_name"],
        query=decode(item["query"]),
        fields=None if item["fields"] is None else tuple(value_check.listed("fields", item["fields"])),
        id_key=item["id_key"],
        database=item["database"],
    )


def _label(label: Any) -> str:
    return "" if label == "" else value_check.text("output label", label)


@dataclass(frozen=True)
class JobStatus:
    """State, error, progress and result of a job."""

    job_id: str
    state: str  # one of RUNNING_STATES, END_STATES or UNKNOWN
    error: Mapping[str, Any] | None = None  # `{code, message, details}` in state error
    traceback: str | None = None  # of task code, if that raised
    progress: Mapping[str, Any] = field(default_factory=dict)  # counts, see docs/mapreduce.md
    result: Any = None  # return value of a basic job's function

    @property
    def ended(self) -> bool:
        """Return True if the state is final (an unknown job counts as ended)."""
        return self.state not in RUNNING_STATES

    def to_document(self) -> dict[str, Any]:
        """Return the BSON-able form `{job_id, status: {state, error, traceback, progress, result}}`."""
        return {
            "job_id": self.job_id,
            "status": {
                "state": self.state,
                "error": None if self.error is None else dict(self.error),
                "traceback": self.traceback,
                "progress": dict(self.progress),
                "result": self.result,
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> JobStatus:
        status = document["status"]
        return cls(
            job_id=document["job_id"],
            state=status["state"],
            error=status.get("error"),
            traceback=status.get("traceback"),
            progress=status.get("progress") or {},
            result=status.get("result"),
        )
