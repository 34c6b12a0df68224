"""Basic jobs: one call of an allowed function on a worker, made at least once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import CallFailedError, MapReduceError, ResultTooBigError, SpecError
from mapreduce.job import value_check
from mapreduce.job.function_registry import Registry
from mapreduce.job.source_text import shown
from mapreduce.job.spec_check import check_code, check_function, check_size
from mapreduce.task_error import described, is_of_task, too_deep
from mapreduce.traceback_text import task_traceback

RESULT_BYTES = 7 * 2**20  # limit of an encoded result: it shares one MongoDB document with the arguments
RESULT_DEPTH = 100  # nesting limit of a result, well below MongoDB's own


@dataclass(frozen=True)
class CallSpec:
    """A function by name and its arguments as BSON, `{args: [...], kwargs: {...}}`."""

    job_id: str
    func_name: str
    arguments: bytes
    code: Mapping[str, str] = field(default_factory=dict)  # sha256 of the source by module; empty = current

    def to_document(self) -> dict[str, Any]:
        """Return the BSON-able form."""
        code = [[module, version] for module, version in self.code.items()]
        return {"job_id": self.job_id, "func_name": self.func_name, "arguments": self.arguments, "code": code}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CallSpec:
        """Return the call that `to_document` described. Raise `SpecError` if `document` does not describe a call."""
        try:
            code = {str(module): str(version) for module, version in document["code"]}
            return cls(document["job_id"], document["func_name"], bytes(document["arguments"]), code)
        except (KeyError, IndexError, *NOT_BSON) as error:
            raise SpecError(f"not a description of a call: {type(error).__name__}: {error}") from None

    def checked(self) -> CallSpec:
        """Return this call. Raise `SpecError` if its names, arguments or size are not allowed."""
        value_check.job_id(self.job_id)
        check_function("func_name", self.func_name)
        check_code(self.code)
        check_size("the call", self.to_document)
        try:
            given = decode(self.arguments)
            value_check.listed("args", given["args"])
            value_check.mapping("kwargs", given["kwargs"])
        except (KeyError, *NOT_BSON) as error:
            raise SpecError(f"arguments of {shown(self.func_name)}: {type(error).__name__}: {error}") from None
        return self

    def with_code(self, versions: Mapping[str, str]) -> CallSpec:
        return replace(self, code=dict(versions))

    def digest(self) -> str:
        """Return a sha256 that is equal for equal calls; it ignores job id and code version."""
        return hashlib.sha256(self.func_name.encode() + b"\0" + self.arguments).hexdigest()


def checked_call(func_name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, job_id: str) -> CallSpec:
    """Return the call with its arguments encoded. Raise `SpecError` if names or arguments are not allowed."""
    check_function("func_name", func_name)
    try:
        arguments = encode({"args": list(args), "kwargs": dict(kwargs or {})})
    except NOT_BSON as error:
        raise SpecError(f"arguments of {shown(func_name)}: {error}") from None
    return CallSpec(job_id, func_name, arguments).checked()


def run_call(call: CallSpec, registry: Registry) -> Any:
    """Call the function and return its BSON-able result.

    Raise `CallFailedError` with the traceback, `ResultTooBigError` if a job record cannot hold the result, and
    `CodeChangedError` if this process has loaded another version of the module.
    """
    registry.check_code(call.code)
    function = registry.resolve(call.func_name, {})
    given = decode(call.arguments)
    try:
        result = function(*given["args"], **given["kwargs"])
        size = len(encode({"result": result}))
    except MapReduceError:
        raise
    except BaseException as error:
        if not is_of_task(error):
            raise
        raise CallFailedError(
            f"{shown(call.func_name)} failed: {described(error)}", {"traceback": task_traceback(error)}
        ) from error
    if size > RESULT_BYTES or too_deep(result, RESULT_DEPTH):
        raise ResultTooBigError(
            f"{shown(call.func_name)} returned {size} bytes: at most {RESULT_BYTES} are returned, nested at most "
            f"{RESULT_DEPTH} levels deep; write big results into a collection and return its name"
        )
    return result
