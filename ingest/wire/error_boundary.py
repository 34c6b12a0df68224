"""Contain failures of our own code on input: quarantine the input, log the error, keep reading."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from .batch import ReceivedBatch

log = logging.getLogger(__name__)

CODE = "reader_failed"
SAY_AGAIN_S = 30.0
_said: dict[str, float] = {}  # error -> when it was last logged


def guarded(step: Callable[[], None], intake: ReceivedBatch, raw: bytes, index: int = 0) -> None:
    """Run `step`, which sorts `raw` into `intake`. If it fails, undo what it added and refuse `raw`."""
    before = intake.size
    try:
        step()
    except Exception as error:  # noqa: BLE001 - one message must not stop the rest: it is refused and logged
        intake.cut(before)
        refuse_failed(error, intake, raw, index)


def refuse_failed(error: Exception, intake: ReceivedBatch, raw: bytes, index: int = 0) -> None:
    """Refuse input on which our own code failed, and log the error."""
    say("refused input", error)
    intake.refuse(CODE, f"the ingester itself failed on it, see its log: {type(error).__name__}", raw, index)


def sort_all(
    messages: Sequence[bytes], intake: ReceivedBatch, read_all: Callable[[], None], read_one: Callable[[bytes], None]
) -> None:
    """Sort messages into `intake` in one go; if that fails, one by one, so that only the bad ones are refused."""
    before = intake.size
    try:
        read_all()
    except Exception as error:  # noqa: BLE001 - as in `guarded`
        intake.cut(before)
        say("a batch, which is now read one by one", error)
        for message in messages:
            guarded(lambda message=message: read_one(message), intake, message)  # type: ignore[misc]


def say(what: str, error: Exception) -> None:
    """Log an internal error with its traceback, the same one at most every 30 s."""
    now = time.monotonic()
    key = f"{type(error).__name__} {str(error)[:60]}"
    if now - _said.get(key, -SAY_AGAIN_S) < SAY_AGAIN_S:
        return
    for old in [each for each, at in _said.items() if now - at >= SAY_AGAIN_S]:
        del _said[old]
    if len(_said) < 100:
        _said[key] = now
        log.error("internal error in %s error=%s", what, type(error).__name__, exc_info=error)
