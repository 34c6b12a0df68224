"""Interface of all engines, and the choice of the one that the settings name."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from mapreduce.exceptions import JobFailedError, JobTimeoutError, SpecError, from_document
from mapreduce.job.basic_job import CallSpec, checked_call
from mapreduce.job.spec import COMPLETE, UNKNOWN, JobSpec, JobStatus, new_job_id
from mapreduce.settings import EngineSettings


class Engine(ABC):
    """Run jobs. Every method can be called from any thread, until `close`.

    All engines give equal results and commit through the same function.
    """

    @abstractmethod
    def submit(self, spec: JobSpec, *, durable: bool = True) -> str:
        """Start a job and return its id once it is recorded. Submitting the same job with the same id is harmless.

        With `durable` the record survives every crash from then on. A caller that stores the spec itself, and
        resubmits it if its state is `UNKNOWN`, need not wait for that.

        Raise `SpecError`, `FunctionRefusedError`, `CodeChangedError`, `JobConflictError` or `RouterUnreachableError`.
        """

    def submit_call(
        self,
        func_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        job_id: str | None = None,
    ) -> str:
        """Start one call of a function on a worker and return the job id. The function runs at least once."""
        call = checked_call(func_name, args, kwargs, job_id or new_job_id())
        self._start_call(call)
        return call.job_id

    @abstractmethod
    def _start_call(self, call: CallSpec) -> None:
        """Start a checked call."""

    @abstractmethod
    def status(self, job_id: str) -> JobStatus:
        """Return the status of a job, with state `UNKNOWN` if no job has this id. Does not wait for the job."""

    @abstractmethod
    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        """Block until the job has ended, and return its final status, also if it failed.

        Raise `JobTimeoutError` after `timeout_s` (None = no limit); the job goes on. Survives a restart of the router.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job and return its status. What it has committed stays. An ended job is left unchanged."""

    @abstractmethod
    def jobs(self) -> list[JobStatus]:
        """Return running and recently ended jobs, newest first; at most 1,000."""

    @abstractmethod
    def ping(self, timeout_s: float = 1.0) -> bool:
        """Return True as soon as the engine answers, or False after `timeout_s`."""

    @abstractmethod
    def close(self) -> None:
        """Close sockets and connections. Jobs go on. Can be called twice."""

    def run(self, spec: JobSpec, timeout_s: float | None = None) -> JobStatus:
        """Submit, wait, and return the status of the completed job. Raise `JobFailedError` if it does not complete."""
        return completed(self.wait(self.submit(spec), timeout_s))

    def call(
        self,
        func_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a function on a worker and return its result. Raise `JobFailedError` if the function raised."""
        return completed(self.wait(self.submit_call(func_name, args, kwargs, new_job_id()), timeout_s)).result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.close()


def completed(status: JobStatus) -> JobStatus:
    """Return `status` if the job is complete. Raise `JobFailedError` with its error, or `JobTimeoutError`."""
    if status.state == COMPLETE:
        return status
    if not status.ended:
        raise JobTimeoutError(f"job {status.job_id} is still in state {status.state}")
    what = from_document(dict(status.error)).message if status.error else status.state
    if status.state == UNKNOWN:
        what = "no job has this id"
    raise JobFailedError(
        f"job {status.job_id}: {what}", {"state": status.state, "error": status.error and dict(status.error)}
    )


_ENGINES = {"zmq": ("mapreduce.engine.zmq", "ZmqEngine"), "inline": ("mapreduce.engine.inline", "InlineEngine")}


def open_engine(settings: EngineSettings) -> Engine:
    """Return the engine that `settings.engine` names. Opens no connection yet.

    Raise `SpecError` for an unknown name.
    """
    try:
        module, name = _ENGINES[settings.engine]
    except KeyError:
        raise SpecError(f"engine {settings.engine!r}: must be one of {', '.join(_ENGINES)}") from None
    engine: Engine = getattr(importlib.import_module(module), name)(settings)
    return engine
