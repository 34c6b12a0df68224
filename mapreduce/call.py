"""Basic jobs: one call of a registered function on a worker, at least once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mapreduce.codec import NOT_BSON, decode, encode
from mapreduce.exceptions import CallFailedError, MapReduceError, SpecError
from mapreduce.registry import Registry
from mapreduce.source_text import shown
from mapreduce.traceback_text import task_traceback


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
        """The call that `to_document` described."""
        code = {str(module): str(version) for module, version in document["code"]}
        return cls(document["job_id"], document["func_name"], bytes(document["arguments"]), code)

    def with_code(self, versions: Mapping[str, str]) -> CallSpec:
        """This call, with the version of its module."""
        return replace(self, code=dict(versions))

    def digest(self) -> str:
        """Equal for equal calls."""
        return hashlib.sha256(self.func_name.encode() + b"\0" + self.arguments).hexdigest()


def checked_call(func_name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, job_id: str) -> CallSpec:
    """The call, with its arguments encoded. Raises `SpecError` when they are not BSON-able."""
    try:
        arguments = encode({"args": list(args), "kwargs": dict(kwargs or {})})
    except NOT_BSON as error:
        raise SpecError(f"arguments of {shown(func_name)}: {error}") from None
    return CallSpec(job_id, func_name, arguments)


def run_call(call: CallSpec, registry: Registry) -> Any:
    """Call the function and return its BSON-able result. Raises `CallFailedError` with the traceback.

    Raises `CodeChangedError` when the module is not loaded here in the version of the call.
    """
    registry.demand(call.code)
    function = registry.resolve(call.func_name, {})
    given = decode(call.arguments)
    try:
        result = function(*given["args"], **given["kwargs"])
        encode({"result": result})
    except MapReduceError:
        raise
    except Exception as error:
        raise CallFailedError(
            f"{shown(call.func_name)} failed: {type(error).__name__}: {error}", {"traceback": task_traceback(error)}
        ) from error
    return result
