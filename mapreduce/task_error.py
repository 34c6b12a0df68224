"""What task code raises, told from what concerns this process, and put into words that can be sent and stored."""

from __future__ import annotations

import signal
from typing import Any

from mapreduce.codec import encode

MESSAGE_CHARACTERS = 4_000
DETAIL_BYTES = 256 * 2**10  # of one detail of an error: a job's record has room for all of them
_REPR_CHARACTERS = 1_000


class Aborted(BaseException):
    """The step is not wanted any more. Not an `Exception`, so that task code does not catch it by the way."""


def is_of_task(error: BaseException) -> bool:
    """Whether what came out of task code is a failure of the task, and no order to this process.

    `SystemExit` is one, as is every other `BaseException`. A `KeyboardInterrupt` is a person's where Ctrl-C has effect,
    and the task's own where it has none, as in executors.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return not isinstance(error, Aborted)


def described(error: BaseException) -> str:
    """Type and text of `error`, also when its own text cannot be had."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException as fault:
        if not is_of_task(fault):
            raise
        return f"{name} (whose text cannot be had: {type(fault).__name__})"


def sendable_text(text: str, most: int) -> str:
    """`text` as UTF-8 can hold it: what it cannot, such as half of a surrogate pair, is written as an escape."""
    shown = text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
    return shown.encode("utf-8", "backslashreplace").decode()


def sendable_detail(value: Any) -> Any:
    """`value` as BSON can hold it; what is not BSON-able, or too big or deep for a record, is shown as text."""
    if isinstance(value, str):
        return sendable_text(value, DETAIL_BYTES // 8)
    try:
        if len(encode({"": value})) <= DETAIL_BYTES and not too_deep(value, 20):
            return value
    except Exception:  # noqa: BLE001 - whatever is in there
        pass
    try:
        return sendable_text(repr(value), _REPR_CHARACTERS)
    except Exception as error:  # noqa: BLE001 - a repr of a task's own
        return f"{type(value).__name__} (whose repr cannot be had: {type(error).__name__})"


def too_deep(value: Any, most: int) -> bool:
    """Whether documents and lists lie in each other more than `most` deep. Does not recurse."""
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
