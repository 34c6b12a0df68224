"""Basic jobs: one call of a registered function on a worker, at least once."""

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
from mapreduce.job.spec_check import demand_code, demand_function, demand_size
from mapreduce.task_error import described, is_of_task, too_deep
from mapreduce.traceback_text import task_traceback

RESULT_BYTES = 7 * 2**20  # of what a function returns: with the arguments it lies in one document of MongoDB
RESULT_DEPTH = 100  # of documents in each other, well below what MongoDB stores


@dataclass(frozen=True)
class CallSpec:
    """A function by name and its arguments as BSON, `{args: [...], kwargs: {...}}`."""

    job_id: str
    func_name: str
    arguments: bytes
    code: Mapping[str, str] = field(default_factory=dict)  # sha256 of the source by module; empty = as it is now

    def to_document(self) -> dict[str, Any]:
        """The BSON-able form."""
        code = [[module, version] for module, version in self.code.items()]
        return {"job_id": self.job_id, "func_name": self.func_name, "arguments": self.arguments, "code": code}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CallSpec:
        """The call that `to_document` described. Raises `SpecError` when it is no such document."""
        try:
            code = {str(module): str(version) for module, version in document["code"]}
            return cls(document["job_id"], document["func_name"], bytes(document["arguments"]), code)
        except (KeyError, IndexError, *NOT_BSON) as error:
            raise SpecError(f"no description of a call: {type(error).__name__}: {error}") from None

    def checked(self) -> CallSpec:
        """This call. Raises `SpecError` when its names, arguments or size are not what is allowed."""
        value_check.job_id(self.job_id)
        demand_function("func_name", self.func_name)
        demand_code(self.code)
        demand_size("the call", self.to_document)
        try:
            given = decode(self.arguments)
            value_check.listed("args", given["args"])
            value_check.mapping("kwargs", given["kwargs"])
        except (KeyError, *NOT_BSON) as error:
            raise SpecError(f"arguments of {shown(self.func_name)}: {type(error).__name__}: {error}") from None
        return self

    def with_code(self, versions: Mapping[str, str]) -> CallSpec:
        """This call, with the version of its module."""
        return replace(self, code=dict(versions))

    def digest(self) -> str:
        """Equal for equal calls."""
        return hashlib.sha256(self.func_name.encode() + b"\0" + self.arguments).hexdigest()


def checked_call(func_name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, job_id: str) -> CallSpec:
    """The call, with its arguments encoded. Raises `SpecError` for names and arguments that are not allowed."""
    demand_function("func_name", func_name)
    try:
        arguments = encode({"args": list(args), "kwargs": dict(kwargs or {})})
    except NOT_BSON as error:
        raise SpecError(f"arguments of {shown(func_name)}: {error}") from None
    return CallSpec(job_id, func_name, arguments).checked()


def run_call(call: CallSpec, registry: Registry) -> Any:
    """Call the function and return its BSON-able result. Raises `CallFailedError` with the traceback, or
    `ResultTooBigError` for what the record of a job cannot hold beside its arguments.

    Raises `CodeChangedError` when the module is not loaded here in the version of the call.
    """
    registry.demand(call.code)
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
            f"{shown(call.func_name)} returned {size} bytes: allowed are {RESULT_BYTES}, with at most {RESULT_DEPTH} "
            "documents in each other; write what is big into a collection and return its name"
        )
    return result
