"""Errors of a machine that lacks something for a step: space on its disk, memory, processes, open files."""

from __future__ import annotations

from mapreduce.exceptions import WorkerUnableError
from mapreduce.task_error import described

_NO_THREAD = "can't start new thread"  # text of CPython's `RuntimeError`, which has no class of its own


def as_unable(error: BaseException) -> WorkerUnableError | None:
    """Return `error`, raised outside task code, as a lack of this machine; None if it is anything else.

    Every `OSError` counts: the engine reads and writes only files of its own, so it is not the job that is wrong.
    """
    if isinstance(error, WorkerUnableError):
        return error
    if isinstance(error, OSError | MemoryError) or (isinstance(error, RuntimeError) and _NO_THREAD in str(error)):
        return WorkerUnableError(
            f"the worker cannot do the step: {described(error)}: check its disk, memory and limits"
        )
    return None
