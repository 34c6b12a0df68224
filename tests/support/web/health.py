"""Ask /healthz again and again beside a request, to see whether it holds up others."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable

import psutil

from tests.support.web.server import Server

# A process of its own: an attack that parses a large answer would hold up the probes in its process, not in the server.
_PROBES = """
import sys, threading, time, urllib.request
import psutil
worker = psutil.Process(int(sys.argv[2]))
processor_s = lambda: sum(worker.cpu_times()[:2])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
slowest = worked = 0.0
while True:
    began, worked_before = time.monotonic(), processor_s()
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
        assert answer.status == 200
    if not slowest:
        print("begun", flush=True)
    slowest = max(slowest, time.monotonic() - began)
    worked = max(worked, processor_s() - worked_before)
    if ended.is_set():
        break
print(slowest, worked)
"""


def slowest_probe_s(server: Server, *attacks: Callable[[], object]) -> float:
    """Return the longest time of an answer of /healthz until all `attacks` are over, in seconds."""
    return _probed(server, attacks)[0]


def most_work_s(server: Server, *attacks: Callable[[], object]) -> float:
    """Return how many seconds at most the worker has computed while one probe waited, however busy the machine is."""
    return _probed(server, attacks)[1]


def _probed(server: Server, attacks: Iterable[Callable[[], object]]) -> tuple[float, float]:
    threads = [threading.Thread(target=attack, daemon=True) for attack in attacks]
    (worker,) = psutil.Process(server.processes["web"].pid).children()
    with subprocess.Popen(
        [sys.executable, "-c", _PROBES, server.url("healthz"), str(worker.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as probes:  # fmt: skip
        assert probes.stdin is not None and probes.stdout is not None
        assert probes.stdout.readline() == "begun\n"
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        probes.stdin.close()
        slowest_s, worked_s = probes.stdout.read().split()
        return float(slowest_s), float(worked_s)
