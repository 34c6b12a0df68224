"""End a Celery worker that was told to stop and waits for a MongoDB that does not answer.

Celery's warm shutdown waits for the task under way, however long, and reads from the broker in between. What it leaves
is recorded in the AggDef and its run, which the next worker takes up, as after a crash.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from pymongo import MongoClient

log = logging.getLogger(__name__)

GRACE_S = 2.0  # for a task to end by itself
PING_S = 1.0
CHECK_EVERY_S = 0.5


class StopLimit:
    """After `begin`, end this process as soon as `answers()` is false, at the earliest after `GRACE_S`.

    `answers` may block for about `PING_S`. `end` is called in a thread, while the rest of the process may be blocked.
    """

    def __init__(self, answers: Callable[[], bool], end: Callable[[], None]) -> None:
        self._answers = answers
        self._end = end
        self._begun = threading.Lock()

    def begin(self, **_: Any) -> None:
        """Start to watch, once. Does not block; safe in a signal handler."""
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._run, name="stop-limit", daemon=True).start()

    def _run(self) -> None:
        time.sleep(GRACE_S)
        while self._answers():
            time.sleep(CHECK_EVERY_S)
        self._end()


def mongodb_answers(address: Callable[[], str]) -> bool:
    """Return whether the MongoDB at `address()` answers within `PING_S`; false if no address is known."""
    limit_ms = int(PING_S * 1000)
    limits: dict[str, Any] = {
        "serverSelectionTimeoutMS": limit_ms,
        "connectTimeoutMS": limit_ms,
        "socketTimeoutMS": limit_ms,
    }
    try:
        with MongoClient(address(), **limits) as client:
            client.admin.command("ping")
    except Exception as error:  # noqa: BLE001 - whatever it is: MongoDB cannot be used
        log.debug("MongoDB does not answer error=%s", error)
        return False
    return True


def end_process() -> None:
    """End this process and its children at once, without what a normal exit waits for."""
    log.warning("stopping without the task under way, since MongoDB does not answer; it is taken up by the next worker")
    for child in psutil.Process().children(recursive=True):
        child.kill()
    logging.shutdown()
    os._exit(0)
