"""Submit the jobs of a recorded range, wait for them and count their results. Leaves positions alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from aggregates.exceptions import RunCancelledError, RunFailedError
from aggregates.run import failpoint
from aggregates.run.outcome import RunCounts
from aggregates.run.position import PlannedRange
from mapreduce.exceptions import JobTimeoutError, MapReduceError
from mapreduce.job.spec import CANCELLED, COMPLETE, UNKNOWN, JobSpec, JobStatus

WAIT_S = 0.5
NOTHING_WRITTEN = frozenset(
    {"map_failed", "key_refused", "function_refused", "code_changed", "input_refused", "bad_request"}
)  # errors of phases before the first commit of results


class EngineLike(Protocol):
    """The part of `mapreduce.engine.Engine` that runs use."""

    def submit(self, spec: JobSpec, *, durable: bool = True) -> str: ...
    def status(self, job_id: str) -> JobStatus: ...
    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus: ...
    def cancel(self, job_id: str) -> JobStatus: ...
    def call(self, func_name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any: ...


def specs(planned: PlannedRange) -> list[JobSpec]:
    """Return the jobs of the range's current attempt."""
    return [
        replace(spec, job_id=f"{spec.job_id}.{planned.attempt}")
        for spec in (JobSpec.from_document(document) for document in planned.jobs)
    ]


def with_code(planned: PlannedRange, code: Mapping[str, str]) -> PlannedRange:
    """Return the range with the current file hashes; only code in these files that it does not use has changed."""
    pairs = [[module, version] for module, version in sorted(code.items())]
    return replace(planned, jobs=tuple({**job, "code": pairs} for job in planned.jobs))


def perform(engine: EngineLike, planned: PlannedRange, check: Callable[[], None]) -> RunCounts:
    """Run the range's jobs to completion and return their counts. Performing them again uses the same job ids.

    `check` is called after each wait of `WAIT_S` and can raise to stop waiting. Raise `RunFailedError` and
    `RunCancelledError`, whose `wrote` says whether results may have been written.
    """
    wanted = specs(planned)
    check()
    for number, spec in enumerate(wanted):
        _submit(engine, spec, wrote=number > 0)
        failpoint.hit("submitted")
    counts = RunCounts()
    for number, spec in enumerate(wanted):
        status = _wait(engine, spec, check)
        if status.state != COMPLETE:
            for other in wanted[number + 1 :]:
                engine.cancel(other.job_id)
            raise _failure(status, others=len(wanted) > 1)
        counts += _counts(status)
    for call in planned.basic:
        _call(engine, call)
    return counts


def _submit(engine: EngineLike, spec: JobSpec, *, wrote: bool) -> None:
    try:
        engine.submit(spec, durable=False)  # the recorded range is submitted again if the engine loses it
    except MapReduceError as error:
        if error.retryable:
            raise
        raise RunFailedError(f"the job was refused: {error}", wrote=wrote) from error


def _call(engine: EngineLike, call: Mapping[str, Any]) -> None:
    try:
        engine.call(call["func_name"], call["args"], call["kwargs"])
    except MapReduceError as error:
        if error.retryable:
            raise
        raise RunFailedError(f"{call['func_name']}: {error}", wrote=True) from error


def _wait(engine: EngineLike, spec: JobSpec, check: Callable[[], None]) -> JobStatus:
    while True:
        try:
            status = engine.wait(spec.job_id, WAIT_S)
        except JobTimeoutError:
            pass
        else:
            if status.state != UNKNOWN:
                return status
            _submit(engine, spec, wrote=True)
        check()


def _failure(status: JobStatus, *, others: bool) -> RunFailedError:
    error = status.error or {}
    wrote = others or not nothing_written(status)
    if status.state == CANCELLED:
        return RunCancelledError("the run was cancelled", wrote=wrote)
    message = str(error.get("message") or status.state)
    return RunFailedError(message, status.traceback or "", wrote=wrote)


def nothing_written(status: JobStatus) -> bool:
    """Return True if the job never reached the reduce phase, which is where results are written."""
    code = str((status.error or {}).get("code", ""))
    return code in NOTHING_WRITTEN or status.progress.get("reduces") == 0


def _counts(status: JobStatus) -> RunCounts:
    progress = status.progress
    skipped = tuple(progress.get("skipped_ids", ()))
    return RunCounts(
        docs_in=int(progress.get("docs_in", 0)),
        keys=int(progress.get("keys_out", 0)),
        skipped=skipped[:1000],
        skipped_count=int(progress.get("skipped_count", len(skipped))),
        job_ids=(status.job_id,),
    )


def discard(engine: EngineLike, planned: PlannedRange) -> None:
    """Cancel the jobs of a range that is no longer needed."""
    for spec in specs(planned):
        if not engine.status(spec.job_id).ended:
            engine.cancel(spec.job_id)
