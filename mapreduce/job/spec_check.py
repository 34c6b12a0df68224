"""Validation of job descriptions from every source: `submit`, a request or a job record. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mapreduce.codec import NOT_BSON, encode
from mapreduce.exceptions import SpecError
from mapreduce.job import query_check, value_check
from mapreduce.job.source_text import is_text as is_source
from mapreduce.job.source_text import split_text, text_name
from mapreduce.job.spec import ANY_LABEL, JobSpec, Output, Source

OUTPUT_TYPES = ("replace", "merge", "reduce")
OUTPUT_PREFIXES = ("zagg.", "zgen.")
ON_ERROR = ("fail", "skip")
SPEC_BYTES = 8 * 2**20  # limit of a job's description or a call's arguments; the result goes into the same record
REPLACEMENTS = "zmr.new."  # prefix of collections that hold unpublished results
_LABEL_CHARACTERS = 100  # longest label that a map can yield, in characters
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


def checked_spec(spec: JobSpec, *, allow_source: bool = False) -> JobSpec:
    """Return `spec`, with a stamp taken from its range of ids if it needs one.

    Raise `SpecError` if its types, names, ranges or sizes are not allowed. Filters that run code on the server are
    refused unless `allow_source` is true.
    """
    if not all(isinstance(source, Source) for source in value_check.listed("sources", spec.sources)):
        raise SpecError(f"sources {value_check.shown(spec.sources)}: must be descriptions of sources")
    if not all(isinstance(output, Output) for output in value_check.mapping("outputs", spec.outputs).values()):
        raise SpecError(f"outputs {value_check.shown(spec.outputs)}: must be outputs by label")
    check_types(spec)
    types = {output.output_type for output in spec.outputs.values()}
    if "reduce" in types and spec.stamp is None and spec.id_min is not None and spec.id_max is not None:
        spec = replace(spec, stamp=(spec.id_min, spec.id_max))
    check_outputs(spec)
    for source in spec.sources:
        query_check.check_query(source.query, allow_source=allow_source)
    check_size("the job's description", spec.to_document)
    return spec


def check_types(spec: JobSpec) -> None:
    """Raise `SpecError` for the first field of the wrong type or with an invalid name."""
    value_check.job_id(spec.job_id)
    value_check.database(spec.database)
    for source in value_check.listed("sources", spec.sources):
        _check_source(spec.database, source)
    if not spec.sources:
        raise SpecError("input_names: name at least one collection")
    for label, output in value_check.mapping("outputs", spec.outputs).items():
        _check_output(spec, label, output)
    if spec.on_error not in ON_ERROR:
        raise SpecError(f"on_error {value_check.shown(spec.on_error)}: must be one of {', '.join(ON_ERROR)}")
    for key in ("reduce_name", "finalize_name"):
        check_function(key, getattr(spec, key), optional=True)
    value_check.truth("associative", spec.associative)
    value_check.mapping("params", spec.params)
    for key in ("id_min", "id_max"):
        value_check.bound(key, getattr(spec, key))
    if spec.stamp is not None:
        if not isinstance(spec.stamp, tuple) or len(spec.stamp) != 2:
            raise SpecError(f"stamp {value_check.shown(spec.stamp)}: must be [from, to]")
        for end in spec.stamp:
            value_check.bound("stamp", end)
    for key in ("reduce_count", "map_job_size"):
        if getattr(spec, key) is not None:
            value_check.whole(key, getattr(spec, key), 10_000_000)
    if spec.split_limit_s is not None:
        value_check.seconds("split_limit_s", spec.split_limit_s)
    check_code(spec.code)


def check_function(key: str, name: Any, *, optional: bool = False) -> None:
    """Raise `SpecError` unless `name` is a valid name of a function or contains its source text."""
    if name is None and optional:
        return
    if not value_check.is_text(name) or not (_NAME.match(name) or is_source(name)):
        raise SpecError(f"{key} {value_check.shown(name)}: must be module:name or module:Class.method")
    if is_source(name):
        text_name(*split_text(name))


def check_code(code: Any) -> None:
    """Raise `SpecError` unless `code` maps module names to versions."""
    if not isinstance(code, Mapping) or not all(map(value_check.is_text, [*code, *code.values()])):
        raise SpecError(f"code {value_check.shown(code)}: must be versions by module")


def check_outputs(spec: JobSpec) -> None:
    """Raise `SpecError` if the outputs contradict each other or the rest of the job."""
    if not spec.outputs:
        raise SpecError("outputs: name at least one")
    if "" in spec.outputs and len(spec.outputs) > 1:
        raise SpecError('outputs: the label "" must be the only output: it is for maps that yield pairs')
    if all(output.output_type != "reduce" for output in spec.outputs.values()):
        return
    if spec.reduce_name is None:
        raise SpecError("output_type reduce needs a reduce_name")
    if not spec.associative:
        raise SpecError("output_type reduce needs an associative reduce: use replace or merge")
    if spec.stamp is None:
        raise SpecError("output_type reduce needs a stamp [from, to], or id_min and id_max, to make repeats harmless")


def check_size(what: str, to_document: Any) -> None:
    """Raise `SpecError` unless the document that `to_document` returns fits into a job record."""
    try:
        size = len(encode(to_document()))
    except NOT_BSON as error:
        raise SpecError(f"{what} cannot be written as BSON: {error}") from None
    if size > SPEC_BYTES:
        raise SpecError(f"{what} of {size} bytes: at most {SPEC_BYTES} are possible; put big values into a collection")


def _check_source(database: str, source: Source) -> None:
    if source.database is not None:
        database = value_check.database(source.database, "database of a source")
    if not value_check.listed("input_names", source.input_names):
        raise SpecError("input_names: name at least one collection")
    for name in source.input_names:
        value_check.collection("input_names", name, value_check.NAMESPACE_BYTES - 1 - len(database.encode()))
    check_function("map_name", source.map_name, optional=True)
    value_check.mapping("query", source.query)
    value_check.path("id_key", source.id_key)
    if source.fields is not None:
        for name in value_check.listed("fields", source.fields):
            value_check.path("fields", name)


def _check_output(spec: JobSpec, label: str, output: Output) -> None:
    if label and label != ANY_LABEL and not value_check.is_label(label):
        raise SpecError(
            f"output label {value_check.shown(label)}: must be 1 to 100 letters, digits, _, - and single dots"
        )
    if output.output_type not in OUTPUT_TYPES:
        raise SpecError(
            f"output_type {value_check.shown(output.output_type)}: must be one of {', '.join(OUTPUT_TYPES)}"
        )
    if output.output_type == "replace" and label == ANY_LABEL:
        raise SpecError("output_type replace needs named outputs: label * is only allowed for merge and reduce")
    taken = len(spec.database.encode()) + 1
    if label == ANY_LABEL:
        taken += _LABEL_CHARACTERS - 1
    if output.output_type == "replace":
        taken += len(REPLACEMENTS) + len(spec.job_id) + 1
    name = output.collection
    if not value_check.is_text(name) or not name.startswith(OUTPUT_PREFIXES) or name in OUTPUT_PREFIXES:
        raise SpecError(f"output {value_check.shown(name)}: must be a collection below {' or '.join(OUTPUT_PREFIXES)}")
    value_check.collection("output", name, value_check.NAMESPACE_BYTES - taken)
    if ("*" in name) != (label == ANY_LABEL):
        raise SpecError(f"output {name!r} of label {label!r}: label *, and no other, needs a star in its output")
