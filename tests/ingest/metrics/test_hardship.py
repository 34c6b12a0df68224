"""Measuring under difficult conditions: overflowing numbers, misbehaving values, signals, child processes, exits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.metrics import MetricError, RequestTimer, Zibrato, lifetime
from ingest.metrics import publisher as publisher_module
from ingest.metrics.wire import Batch
from tests.support.ingest.metrics import Listener, RunningBroker, counted
from tests.support.waiting import WITHIN_S, eventually
from zarkov_site.config.config import REPOSITORY

Make = Callable[..., Zibrato]
Listen = Callable[..., Listener]
NOWHERE = "tcp://127.0.0.1:1"


def named(found: list[Any], name: str) -> Batch:
    """Return the only batch of this name."""
    (batch,) = [item for item in found if isinstance(item, Batch) and item.identity.name == name]
    return batch


def test_sums_beyond_every_float_are_sent_as_the_largest(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()
    for _ in range(3):
        z.gauge(name="g", value=1e308)
        z.gauge(name="low", value=-1e308)
        z.send(mtype="Counter", name="c", value=1e308)
        z.send(mtype="Counter", name="i", value=2**62)
        z.count_me(name="ticks", value=1e308)(lambda: None)()
    z.gauge(name="after", value=1)
    found = listener.until(lambda items: bool(z.flush(1)) and counted(items, "after") == 1 and len(items) >= 6)
    largest = sys.float_info.max
    assert (named(found, "g").sum, named(found, "low").sum, named(found, "c").sum) == (largest, -largest, largest)
    assert named(found, "i").sum == 3 * 2**62
    assert not z.statistics().dropped_measurements


def test_a_metric_that_cannot_be_sent_is_counted_and_the_sender_continues(
    zibrato: Make, listen: Listen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pack, turns = publisher_module.pack_batch, [OSError("no descriptors"), ValueError("odd")]

    def fails(batch: Batch) -> bytes:
        if batch.identity.name == "bad":
            raise ValueError("Out of range float values are not JSON compliant")
        return pack(batch)

    z, listener = zibrato(), listen()
    monkeypatch.setattr(publisher_module, "pack_batch", fails)
    for _ in range(7):
        z.gauge(name="bad", value=1)
    z.gauge(name="good", value=1)
    assert z.flush(10)
    assert z.statistics().dropped_measurements == 7
    take = z._publisher._queue_unbatched
    monkeypatch.setattr(z._publisher, "_queue_unbatched", lambda: _raise(turns.pop()) if turns else take())
    z.gauge(name="later", value=1)
    assert z.flush(10)
    found = listener.until(lambda items: counted(items, "good") == counted(items, "later") == 1)
    later = named(found, "later")
    assert later.before + later.count == 9  # so that the aggregate shows 7 of 9 as lost
    assert "'bad' cannot be sent" in caplog.text
    assert "no descriptors" in caplog.text


def _raise(error: Exception) -> None:
    raise error


class Rude:
    """Raise an error in every method."""

    def _refuse(self) -> Any:
        raise RuntimeError("rude")

    __str__ = __repr__ = __float__ = __lt__ = __ge__ = __bool__ = __len__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def test_no_argument_makes_measured_code_raise(zibrato: Make, caplog: pytest.LogCaptureFixture) -> None:
    z = zibrato()
    refused = 0
    for rude in (Rude(), object(), [], b"x"):
        for wrong in ("level", "name", "source", "tags", "rate", "value", "mtype"):
            for call in (z.gauge, z.histogram, z.set, z.send):
                arguments: dict[str, Any] = {"name": "x", "value": 1, wrong: rude}
                if not (wrong == "rate" and call != z.histogram) and not (
                    wrong == "mtype" and call in (z.histogram, z.set)
                ):
                    call(**arguments)
            if wrong != "value":
                with z.Time_me(**{"name": "x", wrong: rude}):
                    refused += 1
            with z.Count_me(**{"name": "x", wrong: rude}):
                refused += 1
    for call in (z.histogram, z.Time_me, z.Count_me):
        for rate in (None, "0.5", 0, 2):
            call(name="x", value=1, rate=rate)
        call(name="x", value=1, tags={"a": Rude()})
    z.gauge(name="x", value=10**400)
    assert z.statistics().refused > refused
    assert "refused" in caplog.text


def test_none_means_the_default_and_types_can_be_written_as_in_2013(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(source="shop"), listen()
    z.send(level=None, mtype=None, name=None, value=5, source=None)
    z.send(mtype="gauge", name="g")
    z.gauge(level=None, mtype=None, name="n", value=0, source=None)
    for decorator in (z.time_me(mtype="timer", level=None, name="t"), z.count_me(mtype="counter", name="c")):
        decorator(lambda: None)()
    with z.Time_me(mtype=None, level=None, name=None), z.Count_me(mtype="counter", level=None, name=None):
        pass
    assert z.pack(level=None, mtype="counter", name=None, value=2).startswith("info|Counter|default|2|")
    assert z.flush(10)
    found = listener.until(lambda items: len(items) >= 7)
    who = [item.identity for item in found if isinstance(item, Batch)]
    assert {(each.type, each.name, each.level, each.source) for each in who} == {
        ("Gauge", name, "info", "shop") for name in ("default", "g", "n")
    } | {("Timer", name, "info", "shop") for name in ("t", "default_timer")} | {
        ("Counter", name, "info", "shop") for name in ("c", "default_counter")
    }  # fmt: skip
    assert z.statistics().refused == 0


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a separate program, which must end in time."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )


def test_a_signal_handler_can_measure_wherever_it_interrupts() -> None:
    code = """
import signal, time
from ingest.metrics import Zibrato
z = Zibrato(port=1, exit_s=0)
handled = 0
def handler(*_):
    global handled
    handled += 1
    z.gauge(name=f"n{handled}", value=1)
    z.gauge(name="", value=1)
    z.statistics()
signal.signal(signal.SIGALRM, handler)
with z._publisher._guard, z._publisher._counting:  # where a signal may come
    handler()
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
end, n = time.monotonic() + 1, 0
while time.monotonic() < end:
    z.statistics()
    n += 1
    z.gauge(name=f"m{n % 5000}", value=1)
signal.setitimer(signal.ITIMER_REAL, 0)
assert handled > 100, handled
assert z.statistics().refused == handled, (z.statistics(), handled)
"""
    run(code)


CHILD = """
import multiprocessing, sys
context = multiprocessing.get_context(sys.argv[1])
def work(address):
    from ingest.metrics import Zibrato
    z = Zibrato(address=address, interval=3600)
    for _ in range(10):
        z.gauge(name="g", value=1)
if __name__ == "__main__":
    for _ in range(2):
        child = context.Process(target=work, args=(sys.argv[2],))
        child.start()
        child.join(100)
        assert child.exitcode == 0
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_that_measures_before_its_parent_sends_everything(
    method: str, tmp_path: Path, broker: RunningBroker, listen: Listen
) -> None:
    listener = listen()
    program = tmp_path / "program.py"
    program.write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run(
        [sys.executable, str(program), method, broker.publishers], env=environment, check=True, timeout=WITHIN_S
    )
    listener.until(lambda items: counted(items, "g") == 20)


def test_forks_leave_nothing_behind_in_the_parent() -> None:
    import multiprocessing.util

    lifetime._before_fork()
    before = len(multiprocessing.util._afterfork_registry)  # type: ignore[attr-defined]
    for _ in range(10):
        lifetime._before_fork()
    assert len(multiprocessing.util._afterfork_registry) == before  # type: ignore[attr-defined]


def test_many_publishers_end_together_and_report_what_is_lost() -> None:
    code = """
import time
from ingest.metrics import MetricError, RequestTimer, Zibrato, lifetime
many = [Zibrato(port=1, exit_s=2) for _ in range(8)]
for z in many:
    z.gauge(name="g", value=1)
started = time.monotonic()
lifetime.close_all()
print(time.monotonic() - started, sum(z.statistics().dropped_measurements for z in many))
"""
    done = run(code)
    spent, lost = map(float, done.stdout.split())
    assert 1.9 < spent < 12, "16 s one after the other"
    assert lost == 8
    assert done.stderr.count("measurements dropped at exit") == done.stderr.count("measurements=1") == 8


def test_measurements_after_close_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    z, single = Zibrato(address=NOWHERE, interval=3600), Zibrato(address=NOWHERE, interval=0)
    for each in (z, single):
        timed, ticks = each.time_me(name="t")(lambda: None), each.count_me(name="c")(lambda: None)
        each.close(0)
        timed()
        ticks()
        each.gauge(name="g", value=1)
        with each.Time_me(name="block"):
            pass
        seen = each.statistics()
        assert seen.refused + seen.dropped_measurements == 4
        assert seen.waiting == 0
    assert "closed" in caplog.text


def test_the_sender_sleeps_while_only_an_unsubscribed_level_waits(
    zibrato: Make, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, z = listen(b"warn|"), zibrato()
    z.gauge(level="debug", name="d", value=1)
    z.gauge(level="warn", name="w", value=1)
    started = time.monotonic()
    assert z.flush(WITHIN_S)
    assert time.monotonic() - started < WITHIN_S / 2
    assert listener.next().identity.name == "w"  # type: ignore[union-attr]
    turns = 0
    turn = z._publisher._turn

    def counting(link: Any) -> Any:
        nonlocal turns
        turns += 1
        return turn(link)

    monkeypatch.setattr(z._publisher, "_turn", counting)
    z.flush(1)  # the turn that is under way ends
    turns = 0
    time.sleep(0.6)  # the time in which nothing is to happen
    assert turns <= 1
    assert z.statistics().waiting == 1


def test_a_set_keeps_only_hashes(zibrato: Make) -> None:
    z = zibrato()
    z.set(name="s", value="secret")
    (gathered,) = z._accumulators.values()
    assert "secret" not in str(gathered.values)  # type: ignore[union-attr]


def test_an_invalid_name_is_refused_where_it_is_given() -> None:
    z = Zibrato()
    for wrong in (
        {"name": "a\0b"},
        {"tags": {"a\0": 1}},
        {"rate": 1e-320},
        {"tags": dict.fromkeys(map(str, range(65)), 1)},
    ):
        with pytest.raises(MetricError):
            z.time_me(**wrong)  # type: ignore[arg-type]
    z.close()


def test_wrong_options_raise_when_the_object_is_created(
    caplog: pytest.LogCaptureFixture, settings: Any
) -> None:  # fmt: skip
    for wrong in (
        {"exit_s": "x"},
        {"exit_s": -1},
        {"address": 5},
        {"address": "garbage"},
        {"source": ""},
        {"source": 0},
    ):
        with pytest.raises(MetricError, match=next(iter(wrong))):
            Zibrato(**wrong)  # type: ignore[arg-type]
    z = Zibrato(address="nothing://127.0.0.1:1", exit_s=0)
    with pytest.raises(MetricError, match="source"):
        z.time_me(source="")
    z.gauge(name="g", value=1)
    eventually(lambda: "cannot connect to the broker" in caplog.text)
    z.close(0)
    for wrong_setting in ("shop", {"sauce": "shop"}, {"source": ""}):
        settings.ZIBRATO = wrong_setting
        with pytest.raises(MetricError):
            RequestTimer(lambda request: None)
