"""Errors raised by task code: how to tell them from signals to this process, and how to send and store them."""

from __future__ import annotations

import signal
from typing import Any

from mapreduce.codec import encode

MESSAGE_CHARACTERS = 4_000
DETAIL_BYTES = 256 * 2**10  # limit of one error detail, so that all of them fit into a job record
_REPR_CHARACTERS = 1_000


class Aborted(BaseException):
    """The step was aborted. Not an `Exception`, so that task code does not catch it by accident."""


def is_of_task(error: BaseException) -> bool:
    """Return True if `error`, raised by task code, is a failure of the task and not meant for this process.

    A `MemoryError` raised in the engine's own code is none of the task's. `SystemExit` and every other `BaseException`
    are failures of the task. A `KeyboardInterrupt` comes from a person unless SIGINT is ignored, as in executors; there
    the task raised it.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if isinstance(error, MemoryError):
        return not raising_module(error).startswith("mapreduce.")
    return not isinstance(error, Aborted)


def raising_module(error: BaseException) -> str:
    """Return the name of the module whose code raised `error`; empty if it was not raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else str(frame.tb_frame.f_globals.get("__name__"))


def described(error: BaseException) -> str:
    """Return type and text of `error`, even if its `__str__` raises."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException as fault:
        if not is_of_task(fault):
            raise
        return f"{name} (its text is not available: {type(fault).__name__})"


def sendable_text(text: str, most: int) -> str:
    """Return `text` cut to `most` characters; what UTF-8 cannot encode, such as a lone surrogate, is escaped."""
    shown = text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
    return shown.encode("utf-8", "backslashreplace").decode()


def sendable_detail(value: Any) -> Any:
    """Return `value` if BSON and a job record can hold it, else its shortened `repr`; long strings are cut."""
    if isinstance(value, str):
        return sendable_text(value, DETAIL_BYTES // 8)
    try:
        if len(encode({"": value})) <= DETAIL_BYTES and not too_deep(value, 20):
            return value
    except Exception:  # noqa: BLE001 - the value is the task's own
        pass
    try:
        return sendable_text(repr(value), _REPR_CHARACTERS)
    except Exception as error:  # noqa: BLE001 - the repr is the task's own code
        return f"{type(value).__name__} (its repr is not available: {type(error).__name__})"


def too_deep(value: Any, most: int) -> bool:
    """Return True if documents and lists are nested more than `most` levels deep. Does not recurse."""
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list | tuple)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
