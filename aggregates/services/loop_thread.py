"""Run a step again and again in a thread that no error ends, and say how the loops of this process fare."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable

from ingest.log_limit import LogLimit

log = logging.getLogger(__name__)

RETRY_S = 1.0  # pause after a step that failed
LOG_EVERY_S = 30.0
_log_limit = LogLimit(LOG_EVERY_S)
_started: weakref.WeakKeyDictionary[LoopThread, int] = weakref.WeakKeyDictionary()  # loop -> process that started it


class LoopThread:
    """Call `step` until `stop`, in a daemon thread (a greenlet under gunicorn's gevent worker).

    Whatever a step raises is logged, at most once in `LOG_EVERY_S` for each kind of error, and the next step follows
    after `RETRY_S`. A step may block, but should look at `stopping` now and then.
    """

    def __init__(self, name: str, step: Callable[[], None]) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._step = step
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Call it once."""
        _started[self] = os.getpid()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after its current step; wait at most `timeout_s`. May be called twice, and before `start`."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def fault(self) -> str:
        """Return the kind of error of the last step, or "ended" for a thread that ended without `stop`; else empty."""
        if not self._thread.is_alive() and not self.stopping.is_set():
            return "ended"
        return self._fault

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._step()
            except BaseException as error:
                self._fault = type(error).__name__
                if _log_limit.allows(f"{self.name} {self._fault}"):
                    log.exception("loop failed, it goes on thread=%s error=%s", self.name, self._fault)
                self.stopping.wait(RETRY_S)
            else:
                self._fault = ""


def loop_faults() -> dict[str, str]:
    """Return the fault of each loop that runs in this process, by its name; empty text = it is well."""
    own = [loop for loop, process in list(_started.items()) if process == os.getpid()]
    return {loop.name: loop.fault for loop in own if not loop.stopping.is_set()}
