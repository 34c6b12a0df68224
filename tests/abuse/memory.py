"""Watch how much memory the processes of a system take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

import psutil

_EVERY_S = 0.25


class MemoryWatch:
    """Keep the largest resident size of each process, in bytes, by what it runs; mongod's is left out.

    Processes that come and go, such as executors, are summed up under one name only if they run at the same time.
    """

    def __init__(self, processes: Callable[[], Iterable[psutil.Process]]) -> None:
        self.largest: dict[str, int] = {}
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            for process in self._processes():
                with contextlib.suppress(psutil.Error):
                    name = _part(process.cmdline())
                    if name:
                        rss = process.memory_info().rss
                        self.largest[name] = max(self.largest.get(name, 0), rss)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _part(words: list[str]) -> str:
    """Return the name of the part that a command line runs, empty for mongod and shells."""
    line = " ".join(words)
    known = {
        "runingest": "ingester", "runrouter": "router", "mapreduce.worker.executor": "executor", "runworker": "worker",
        "runaggregator": "aggregator", "runbroker": "broker", "runbackend": "backend", "gunicorn": "web",
        " beat": "beat", " worker": "celery",
    }  # fmt: skip
    return next((name for mark, name in known.items() if mark in line), "")
