"""Contain failures of our own code on input: quarantine the input, log the error, keep reading."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

from ..log_limit import LogLimit
from .batch import ReceivedBatch

log = logging.getLogger(__name__)

READER_FAILED = "reader_failed"
LOG_EVERY_S = 30.0
_log_limit = LogLimit(LOG_EVERY_S)


def refuse_on_failure(step: Callable[[], None], batch: ReceivedBatch, raw: bytes, index: int = 0) -> None:
    """Run `step`, which reads `raw` into `batch`. If it fails, undo what it added and refuse `raw`."""
    before = batch.checkpoint()
    try:
        step()
    except Exception as error:  # noqa: BLE001 - one message must not stop the rest: it is refused and logged
        batch.roll_back(before)
        refuse_and_log(error, batch, raw, index)


def refuse_and_log(error: Exception, batch: ReceivedBatch, raw: bytes, index: int = 0) -> None:
    """Refuse input on which our own code failed, and log the error."""
    log_failure("refused input", error)
    batch.refuse(READER_FAILED, f"the ingester itself failed on it, see its log: {type(error).__name__}", raw, index)


def read_with_fallback(
    messages: Sequence[bytes], batch: ReceivedBatch, read_all: Callable[[], None], read_one: Callable[[bytes], None]
) -> None:
    """Read messages into `batch` in one go; if that fails, one by one, so that only the bad ones are refused."""
    before = batch.checkpoint()
    try:
        read_all()
    except Exception as error:  # noqa: BLE001 - as in `refuse_on_failure`
        batch.roll_back(before)
        log_failure("a batch, which is now read one by one", error)
        for message in messages:
            refuse_on_failure(lambda message=message: read_one(message), batch, message)  # type: ignore[misc]


@contextlib.contextmanager
def logged(where: str) -> Iterator[None]:
    """Log an error that ends the block instead of raising it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the caller goes on with the next part
        log_failure(where, error)


def log_failure(where: str, error: Exception) -> None:
    """Log an internal error with its traceback, the same one at most once in `LOG_EVERY_S`."""
    if _log_limit.allows(f"{type(error).__name__} {str(error)[:60]}"):
        log.error("internal error place=%r error=%s", where, type(error).__name__, exc_info=error)
