"""Ask /healthz again and again beside a request, to see whether it holds up others."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable

from tests.support.web.server import Server


def slowest_probe_s(server: Server, *attacks: Callable[[], object]) -> float:
    """Return the longest time of an answer of /healthz until all `attacks` are over, in seconds."""
    threads = [threading.Thread(target=attack, daemon=True) for attack in attacks]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        with urllib.request.urlopen(server.url("healthz"), timeout=60) as answer:
            assert answer.status == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest
