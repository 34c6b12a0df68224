"""Benchmarks of measuring: its cost for the measured code, the broker's rate, memory with many names.

Our side counts all processor time of the process, the sender's thread included. Peers: prometheus-client, and each
measurement sent over a PUB socket as in 2013 (`tests/bench/peers/metrics_pub.py`).
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import prometheus_client

from ingest.metrics import Zibrato
from tests.bench.peers import metrics_pub

ROUNDS = 7
CALLS = 100_000
WARM = 1_000
TOTAL = ROUNDS * (CALLS + WARM)
MESSAGES = 300_000
NAMES = 10_000
MEMORY_MB = 50
Row = dict[str, Any]
Call = Callable[[], None]


def empty() -> None:
    """The measured function."""


class Broker:
    """Run `manage.py runbroker`."""

    def __init__(self) -> None:
        code = (
            "import select, sys\n"
            "from ingest.metrics.broker import Broker\n"
            "b = Broker('tcp://127.0.0.1:0', 'tcp://127.0.0.1:0')\n"
            "b.start()\n"
            "print(*b.addresses.values(), flush=True)\n"
            "class Stop:\n"
            "    def fileno(self): return sys.stdin.fileno()\n"
            "    def is_set(self): return bool(select.select([sys.stdin], [], [], 0)[0])\n"
            "b.run(Stop())\n"
            "b.close()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.publishers, self.backends = self.process.stdout.readline().split()

    def close(self) -> None:
        """Stop it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Receiver:
    """Count in a separate process what a broker forwards; the process starts with the first message."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.peers.metrics_receiver", address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def expect(self, name: str, count: int) -> None:
        """Return once exactly `count` measurements of this name have arrived; raise if others have."""
        answer = self._ask(f"{name} {count}")
        assert answer == "equal", f"{name}: {answer}"

    def heard(self, name: str) -> bool:
        """Return whether anything of this name has arrived, after waiting a little for it."""
        return self._ask(f"{name} any") == "equal"

    def _ask(self, question: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Stop it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@contextmanager
def running(receivers: int = 1) -> Iterator[tuple[Broker, list[Receiver]]]:
    """A broker with receivers behind it."""
    broker = Broker()
    started = [Receiver(broker.backends) for _ in range(receivers)]
    try:
        yield broker, started
    finally:
        for receiver in started:
            receiver.close()
        broker.close()


def per_call(function: Call, settle: Call = lambda: None) -> float:
    """Return the processor time of one call in seconds, over all threads, without that of the loop."""
    calls = range(CALLS)
    for _ in range(WARM):
        function()
    settle()
    before = time.process_time()
    for _ in calls:
        function()
    settle()
    spent = time.process_time() - before
    before = time.process_time()
    for _ in calls:
        empty()
    return max(1e-12, spent - (time.process_time() - before)) / CALLS


def row(name: str, ours: list[float], theirs: list[float], must: float) -> list[Row]:
    """Return the medians of alternating rounds, in nanoseconds; the ratio is the median of the rounds' ratios."""
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return [
        {
            "name": name, "ours": statistics.median(ours) * 1e9, "peer": statistics.median(theirs) * 1e9,
            "ratio": ratio, "unit": "ns/call", "must": f"<={must}", "ok": ratio <= must,
        }
    ]  # fmt: skip


def compare(name: str, z: Zibrato, ours: Call, peer: Call, must: float) -> list[Row]:
    """Our decorated function against the peer's, in alternating rounds of one process."""
    mine, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(per_call(peer))
        mine.append(per_call(ours, lambda: flushed(z)))
    return row(name, mine, theirs, must)


def flushed(z: Zibrato) -> None:
    """Wait until everything so far is sent; this counts as cost too."""
    assert z.flush(30), z.statistics()


def time_me() -> list[Row]:
    """`@z.time_me` on an empty function against `Histogram.time()`."""
    registry = prometheus_client.CollectorRegistry()
    histogram = prometheus_client.Histogram("empty", "Nothing.", registry=registry)
    with running() as (broker, (receiver,)), Zibrato(address=broker.publishers) as z:
        rows = compare("metrics.time_me", z, z.time_me(name="t")(empty), histogram.time()(empty), 0.5)
        receiver.expect("t", TOTAL)
    assert registry.get_sample_value("empty_count") == TOTAL
    return rows


def count_me() -> list[Row]:
    """`@z.count_me` on an empty function against `Counter.inc()` in a wrapper."""
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("calls", "Nothing.", registry=registry)

    @functools.wraps(empty)
    def wrapped() -> None:
        empty()
        counter.inc()

    with running() as (broker, (receiver,)), Zibrato(address=broker.publishers) as z:
        rows = compare("metrics.count_me", z, z.count_me(name="c")(empty), wrapped, 1.0)
        receiver.expect("c", TOTAL)
    assert registry.get_sample_value("calls_total") == TOTAL
    return rows


def time_me_pub() -> list[Row]:
    """`@z.time_me` against sending each time over PUB, as in 2013, to the same broker and receiver."""
    with running() as (broker, (receiver,)), Zibrato(address=broker.publishers) as z:
        peer = metrics_pub.Publisher(broker.publishers)
        joined(peer, [receiver])
        rows = compare("metrics.time_me_pub", z, z.time_me(name="t")(empty), peer.timed(empty, "pub"), 0.35)
        receiver.expect("t", TOTAL)
        receiver.expect("pub", TOTAL)
        peer.close()
    return rows


def joined(peer: metrics_pub.Publisher, receivers: list[Receiver]) -> None:
    """Return once what the peer sends arrives: a PUB socket drops messages before it has a subscriber."""
    hello = peer.timed(empty, "hello")
    for receiver in receivers:
        while not receiver.heard("hello"):
            hello()


def broker() -> list[Row]:
    """Messages per second through the broker to two backends that each receive all of them."""
    rates = []
    with running(2) as (middle, receivers):
        peer = metrics_pub.Publisher(middle.publishers)
        joined(peer, receivers)
        message = b"info|Timer|m|0.000123|1300000000|not_specified"
        for number in range(1, 6):
            started = time.perf_counter()
            for _ in range(MESSAGES):
                peer.socket.send(message)
            for receiver in receivers:
                receiver.expect("m", number * MESSAGES)
            rates.append(MESSAGES / (time.perf_counter() - started))
        peer.close()
    rate = statistics.median(rates)
    return [
        {
            "name": "metrics.broker", "ours": rate, "peer": None, "ratio": rate, "unit": "messages/s",
            "must": ">=100000", "ok": rate >= 100_000,
        }
    ]  # fmt: skip


MEMORY = rf"""
import re, sys
from pathlib import Path
from ingest.metrics import Zibrato
z = Zibrato(address=sys.argv[1], interval=1)
functions = [z.time_me(name=f'name.{{n}}')(lambda: None) for n in range({NAMES})]
for _ in range(50):
    for function in functions:
        function()
assert z.flush(60), z.statistics()
# getrusage(2) also counts what the parent was at the fork.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6)
"""


def memory() -> list[Row]:
    """The largest resident size of a whole program with 10,000 timers, 50 calls each, all of it sent."""
    found = []
    for _ in range(5):
        with running() as (middle, (receiver,)):
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, middle.publishers], capture_output=True, text=True, check=True
            )
            receiver.expect("name.0", 50)
            receiver.expect(f"name.{NAMES - 1}", 50)
        found.append(float(done.stdout))
    size = statistics.median(found)
    return [
        {
            "name": "metrics.memory", "ours": size, "peer": None, "ratio": size, "unit": "MB", "must": f"<={MEMORY_MB}",
            "ok": size <= MEMORY_MB,
        }
    ]  # fmt: skip


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "metrics.time_me": time_me,
    "metrics.time_me_pub": time_me_pub,
    "metrics.count_me": count_me,
    "metrics.broker": broker,
    "metrics.memory": memory,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        print(BENCHMARKS[name]())
