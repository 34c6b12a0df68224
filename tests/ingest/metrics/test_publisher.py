"""Nothing is lost between a measurement and the broker, and measured code never waits, with threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from ingest.metrics import Zibrato
from ingest.metrics.accumulate import SUMMARIZE_AT, CallCounter, Distribution
from ingest.metrics.identity import identity
from ingest.metrics.outbox import Outbox
from ingest.metrics.wire import Batch
from tests.support.durations import assert_within
from tests.support.ingest.metrics import Listener, RunningBroker, counted
from tests.support.waiting import WITHIN_S, eventually
from zarkov_site.config.config import REPOSITORY

Make = Callable[..., Zibrato]
Listen = Callable[..., Listener]
THREADS, CALLS = 8, 20_000


def test_sums_are_exact_over_threads_that_end_while_the_sender_collects(zibrato: Make, listen: Listen) -> None:
    listener, z = listen(), zibrato(interval=0.01)

    @z.time_me(name="t")
    @z.count_me(name="c", value=3)
    def work(n: int) -> None:
        if n % 100 == 0:
            raise LookupError

    def run() -> None:
        for n in range(CALLS):
            try:
                work(n)
            except LookupError:
                z.send(mtype="Counter", name="v", value=n)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert z.flush(20)
    expected = {"t": THREADS * CALLS, "c": THREADS * CALLS, "v": THREADS * CALLS // 100}
    found = listener.until(lambda items: all(counted(items, name) >= count for name, count in expected.items()))
    batches = [item for item in found if isinstance(item, Batch)]
    assert {name: counted(found, name) for name in expected} == expected
    failed = [b for b in batches if b.identity.outcome == "error"]
    assert counted(failed, "t") == THREADS * CALLS // 100
    plain = sum(b.sum for b in batches if b.identity.name == "c" and not b.identity.outcome)
    assert plain == 3 * (THREADS * CALLS - THREADS * CALLS // 100)
    assert sum(b.sum for b in batches if b.identity.name == "v") == THREADS * sum(range(0, CALLS, 100))
    sketched = sum(sum((b.sketch or {}).get("positive", [])[1::2]) for b in batches if b.identity.name == "t")
    assert sketched == THREADS * CALLS
    assert [b.sequence for b in batches] == list(range(1, len(batches) + 1))
    before = 0
    for batch in batches:
        assert batch.before == before
        before += batch.count


def test_an_accumulator_is_bounded_without_a_sender() -> None:
    gathered = Distribution(identity("Timer", "info", "a", "b"))
    for n in range(10 * SUMMARIZE_AT):
        gathered.add(n)
        assert len(gathered.values) < SUMMARIZE_AT
    summary = gathered.collect()
    assert summary is not None
    assert (summary.count, summary.min, summary.max) == (10 * SUMMARIZE_AT, 0, 10 * SUMMARIZE_AT - 1)


def test_calls_are_counted_exactly_while_the_count_is_read() -> None:
    calls = CallCounter(identity("Counter", "info", "a", "b"), 1)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: [calls.tick() for _ in range(50_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found.append(calls.count_new())
    found.append(calls.count_new())
    assert sum(found) == 200_000


def test_a_publisher_waits_for_the_first_subscriber_and_loses_nothing(closing: Callable[..., object]) -> None:
    """A PUB socket would have dropped all of it: the slow joiner problem."""
    broker = RunningBroker()
    closing(broker)
    z = Zibrato(address=broker.publishers, interval=0.05)
    closing(z)
    for _ in range(5):
        z.gauge(name="early", value=1)
        time.sleep(0.06)  # an interval each
    assert z.statistics().sent == 0
    listener = Listener(broker.backends)
    closing(listener)
    found = listener.until(lambda items: counted(items, "early") == 5)
    assert [b.sequence for b in found if isinstance(b, Batch)] == list(range(1, len(found) + 1))


def test_a_broker_that_starts_late_or_restarts_receives_what_waited(closing: Callable[..., object]) -> None:
    address = ""
    z = Zibrato(address=lambda: address or _nowhere(), interval=0.05)
    closing(z)
    z.gauge(name="g", value=1)
    first = RunningBroker()
    address = first.publishers
    listener = Listener(first.backends)
    listener.until(lambda items: counted(items, "g") == 1)
    listener.close()
    first.stop()
    # The connection's end withdraws the subscription.
    eventually(lambda: z.gauge(name="meanwhile", value=1) or z.statistics().waiting > 0)
    second = RunningBroker()
    closing(second)
    other = Listener(second.backends)
    closing(other)
    address = second.publishers
    other.until(lambda items: counted(items, "meanwhile") >= 1)


def _nowhere() -> str:
    raise LookupError("not yet")


def test_only_subscribed_levels_are_sent_and_flush_reports_what_waits(zibrato: Make, listen: Listen) -> None:
    listener, z = listen(b"info|"), zibrato()
    z.gauge(level="info", name="a", value=1)
    z.gauge(level="information", name="b", value=1)
    assert z.flush(10)  # to subscribers; what no subscriber wants keeps waiting
    found = listener.next()
    assert isinstance(found, Batch)
    assert found.identity.name == "a"
    assert z.statistics().waiting == 1
    wanted = listen(b"information|Batch|b")
    assert wanted.next().identity.name == "b"  # type: ignore[union-attr]
    assert z.flush(5)


def test_calls_return_at_once_without_a_broker_and_drops_are_counted() -> None:
    box = Outbox(most_bytes=1_000)
    for n in range(100):
        box.put(b"info|", b"x" * 100, 7)
        box.put(b"warn|", b"y" * 10, 1)
        assert n < 10 or box.dropped_messages
    assert box.waiting + box.dropped_messages == 200
    sent: list[bytes] = []
    assert box.send(lambda topic: True, lambda message: sent.append(message) or True)  # type: ignore[func-returns-value]
    assert box.dropped_measurements == 7 * (100 - sent.count(b"x" * 100)) + (100 - sent.count(b"y" * 10))
    assert box.waiting == 0


def test_dropped_measurements_are_reported_and_seen_as_a_gap(
    zibrato: Make, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.metrics.outbox.Outbox.__init__.__defaults__", (2_000,))
    z = zibrato(interval=0.02)
    for _ in range(100):
        z.gauge(name="g", value=1)
        time.sleep(0.005)
    dropped = z.statistics().dropped_measurements
    assert dropped > 0
    listener = listen()
    z.gauge(name="end", value=1)
    found = listener.until(lambda items: counted(items, "end") == 1)
    first = found[0]
    assert isinstance(first, Batch)
    assert first.sequence > 1
    received = counted(found, "g")
    info = [b for b in found if isinstance(b, Batch) and b.identity.level == "info"]
    lost = info[-1].before + info[-1].count - sum(b.count for b in info)
    assert received + lost == 100


def test_a_program_sends_what_is_left_when_it_exits(broker: RunningBroker, listen: Listen) -> None:
    listener = listen()
    code = (
        "from ingest.metrics import Zibrato\n"
        f"z = Zibrato(address={broker.publishers!r}, interval=3600)\n"
        "for n in range(1000): z.gauge(name='g', value=n)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=REPOSITORY, check=True, timeout=WITHIN_S)
    found = listener.until(lambda items: counted(items, "g") == 1000)
    assert len(found) == 1


def test_a_program_without_a_broker_exits_within_its_limit() -> None:
    def run(exit_s: float) -> float:
        code = f"from ingest.metrics import Zibrato; z = Zibrato(port=1, exit_s={exit_s}); z.gauge(name='g', value=1)"
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=WITHIN_S)
        return time.monotonic() - started

    def close(exit_s: float) -> float:
        z = Zibrato(port=1, exit_s=exit_s)
        z.gauge(name="g", value=1)
        started = time.monotonic()
        z.close()
        z.close()
        return time.monotonic() - started

    for way in (run, close):
        assert way(4) >= 4
        assert_within(4, lambda way=way: way(0.3), tries=1)  # type: ignore[misc]


def test_forked_children_send_only_their_own_measurements(zibrato: Make, listen: Listen) -> None:
    listener, z = listen(), zibrato()

    @z.time_me(name="t")
    def work() -> None:
        pass

    count = z.count_me(name="c")(work)
    for _ in range(5):
        count()
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=lambda: [count() for _ in range(1000)]) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(WITHIN_S)
        assert child.exitcode == 0
    pid = os.fork()
    if not pid:
        try:
            for _ in range(7):
                count()
            z.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    count()
    assert z.flush(10)
    expected = 5 + 3 * 1000 + 7 + 1
    found = listener.until(lambda items: counted(items, "t") >= expected and counted(items, "c") >= expected)
    assert counted(found, "t") == counted(found, "c") == expected
    publishers = {b.publisher for b in found if isinstance(b, Batch)}
    assert len(publishers) == 5
    assert not listener.rest()


def test_in_a_patched_process_the_sender_is_a_thread_and_greenlets_are_measured(
    broker: RunningBroker, listen: Listen
) -> None:
    listener = listen()
    code = f"""
from gevent import monkey
monkey.patch_all()
import gevent, time
from ingest.metrics import Zibrato
z = Zibrato(address={broker.publishers!r}, interval=0.05)

@z.time_me(name="t")
def work():
    gevent.sleep(0.001)

@z.count_me(name="spin")
def spin():
    pass

gevent.joinall([gevent.spawn(lambda: [work() for _ in range(50)]) for _ in range(20)])
end = time.monotonic() + 0.5
while time.monotonic() < end:  # never yields: a greenlet could not send meanwhile
    spin()
print(z.statistics().sent, flush=True)
assert z.flush(5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
    listener.until(lambda items: counted(items, "t") == 1000 and counted(items, "spin") > 0)


def test_the_publishing_side_loads_nothing_but_pyzmq_and_the_standard_library() -> None:
    code = (
        "import sys, ingest.metrics.zibrato\n"
        "allowed = set(sys.stdlib_module_names) | {'zmq', 'ingest', '_cython_3_1_2'}\n"
        "bad = {n.split('.')[0] for n in sys.modules} - allowed\n"
        "print(sorted(n for n in bad if not n.startswith('_')))\n"
        "print(sorted(n for n in sys.modules if n.startswith('ingest')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    outside, ours = done.stdout.splitlines()
    assert outside in ("[]", "['cython_runtime']"), outside
    assert "backend" not in ours
    assert "metrics.broker'" not in ours


def test_no_thread_and_no_socket_before_the_first_metric() -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    z = Zibrato()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    z.close()
