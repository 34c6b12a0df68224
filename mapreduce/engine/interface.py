"""What every engine offers, and which one the settings name."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from mapreduce.exceptions import EngineMissingError, JobFailedError, JobTimeoutError, SpecError, from_document
from mapreduce.job.spec import COMPLETE, UNKNOWN, JobSpec, JobStatus, new_job_id
from mapreduce.settings import EngineSettings


class Engine(ABC):
    """Runs jobs. Every method may be called from any thread; `close` ends its use.

    All engines give equal results and commit through the same conditional function.
    """

    @abstractmethod
    def submit(self, spec: JobSpec, *, durable: bool = True) -> str:
        """Start a job and return its id, once it is recorded. The same id with the same job again is the same job.

        With `durable` the record has outlived every crash by then. A caller that keeps the spec itself, and submits
        it again should it be `UNKNOWN`, does not need to wait for that.

        Raises `SpecError`, `FunctionRefusedError`, `CodeChangedError`, `JobConflictError`, `RouterUnreachableError`.
        """

    @abstractmethod
    def submit_call(
        self,
        func_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        job_id: str | None = None,
    ) -> str:
        """Start one call of a function on a worker, and return the job id. It runs at least once."""

    @abstractmethod
    def status(self, job_id: str) -> JobStatus:
        """How a job stands; state `UNKNOWN` when there is none of this id. Does not wait for the job."""

    @abstractmethod
    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        """Block until the job has ended and return its last status, whatever that is.

        Raises `JobTimeoutError` after `timeout_s` (None = no limit); the job goes on. Outlives a restart of the router.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job and return its status. What it has committed stays. An ended job does not change."""

    @abstractmethod
    def jobs(self) -> list[JobStatus]:
        """Running jobs, and those that ended lately, newest first; at most 1,000."""

    @abstractmethod
    def ping(self, timeout_s: float = 1.0) -> bool:
        """Whether jobs are taken right now: at once when so, after `timeout_s` when nobody answers."""

    @abstractmethod
    def close(self) -> None:
        """Let go of sockets and connections; may be called twice. Jobs go on."""

    def run(self, spec: JobSpec, timeout_s: float | None = None) -> JobStatus:
        """Submit, wait, and return the status of the completed job. Raises `JobFailedError` when it ended otherwise."""
        return completed(self.wait(self.submit(spec), timeout_s))

    def call(
        self,
        func_name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a function on a worker and return what it returned. Raises `JobFailedError` when it raised."""
        return completed(self.wait(self.submit_call(func_name, args, kwargs, new_job_id()), timeout_s)).result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.close()


def completed(status: JobStatus) -> JobStatus:
    """`status` when the job is complete. Raises `JobFailedError` with the job's error, or `JobTimeoutError`."""
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


_ENGINES = {
    "zmq": ("mapreduce.engine.zmq", "ZmqEngine"),
    "inline": ("mapreduce.engine.inline", "InlineEngine"),
    "dask": ("mapreduce.engine.dask", "DaskEngine"),
}


def open_engine(settings: EngineSettings) -> Engine:
    """The engine that `settings.engine` names. Opens no connection yet.

    Raises `SpecError` for an unknown name, `EngineMissingError` when what it needs is not installed.
    """
    try:
        module, name = _ENGINES[settings.engine]
    except KeyError:
        raise SpecError(f"engine {settings.engine!r}: allowed are {', '.join(_ENGINES)}") from None
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise EngineMissingError(f"engine {settings.engine} is not installed: {error}") from None
    engine: Engine = kind(settings)
    return engine
