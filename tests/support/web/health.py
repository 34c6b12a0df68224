"""Ask /healthz again and again beside a request, to see whether it holds up others."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

from tests.support.web.server import Server

# A process of its own: an attack that parses a large answer would hold up the probes in its process, not in the server.
_PROBES = """
import sys, threading, time, urllib.request
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
slowest = 0.0
while True:
    began = time.monotonic()
    with urllib.request.urlopen(sys.argv[1], timeout=60) as answer:
        assert answer.status == 200
    if not slowest:
        print("begun", flush=True)
    slowest = max(slowest, time.monotonic() - began)
    if ended.is_set():
        break
print(slowest)
"""


def slowest_probe_s(server: Server, *attacks: Callable[[], object]) -> float:
    """Return the longest time of an answer of /healthz until all `attacks` are over, in seconds."""
    threads = [threading.Thread(target=attack, daemon=True) for attack in attacks]
    with subprocess.Popen(
        [sys.executable, "-c", _PROBES, server.url("healthz")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as probes:
        assert probes.stdin is not None and probes.stdout is not None
        assert probes.stdout.readline() == "begun\n"
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        probes.stdin.close()
        return float(probes.stdout.read())
