"""The interface of 2013 and its additions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from ingest.metrics import Zibrato
from ingest.metrics.exceptions import MetricError
from ingest.metrics.sketch import hash_of
from ingest.metrics.wire import Batch, Measurement, unpack
from tests.support.ingest.metrics import Listener

Make = Callable[..., Zibrato]
Listen = Callable[..., Listener]
T = TypeVar("T")


def run_alone(main: Coroutine[Any, Any, T]) -> T:
    """Run it in another thread: playwright leaves an event loop running in the tests' thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main).result()


def batches(z: Zibrato, listener: Listener) -> dict[tuple[str, str], Batch]:
    """Return what was measured since, by name and outcome."""
    assert z.flush(10)
    found = [unpack(message) for message in listener.rest()]
    assert all(isinstance(item, Batch) for item in found)
    return {(item.identity.name, item.identity.outcome): item for item in found if isinstance(item, Batch)}


def test_the_examples_of_2013_run(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()

    @z.time_me(level="debug", name="myfunct_timer", source="myprog")
    def myfunctt(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    @z.count_me(level="info", name="myfunct_counter", value=5)
    def myfunctc() -> None:
        pass

    assert myfunctt(1) == 3
    myfunctc()
    begun = time.perf_counter()
    with z.Time_me(level="debug", name="timer_name"):
        pass
    most_s = time.perf_counter() - begun
    with z.Count_me(level="info", name="counter_name", source="deathstar"):
        pass
    z.gauge(level="crit", name="gauge_name", value=123)
    z.send(level="warn", mtype="Counter", name="sent", value=7)
    assert z.connected()
    assert (myfunctt.__name__, myfunctt.__doc__) == ("myfunctt", "Adds.")
    assert str(inspect.signature(myfunctt)) == "(a: 'int', b: 'int' = 2) -> 'int'"
    found = batches(z, listener)
    untimed = {name: b for (name, _), b in found.items() if b.identity.type != "Timer"}
    assert {name: (b.identity.level, b.identity.type, b.sum) for name, b in untimed.items()} == {
        "myfunct_counter": ("info", "Counter", 5),
        "counter_name": ("info", "Counter", 1),
        "gauge_name": ("crit", "Gauge", 123),
        "sent": ("warn", "Counter", 7),
    }  # fmt: skip
    assert found["myfunct_timer", ""].identity.source == "myprog"
    assert found["counter_name", ""].identity.source == "deathstar"
    assert found["timer_name", ""].identity.source == "not_specified"
    assert 0 < found["timer_name", ""].sum <= most_s
    z.close()
    assert not z.connected()


def test_pack_keeps_zero_and_encodes_bars() -> None:
    z = Zibrato(port="5550", context=None)
    level, kind, name, value, epoch, source = z.pack(level="info", mtype="Gauge", name="a|b", value=0).split("|")
    assert (level, kind, name, value, source) == ("info", "Gauge", "a%7Cb", "0", "not_specified")
    assert int(epoch) > 1_700_000_000
    assert z.pack().split("|")[:4] == ["info", "Gauge", "default", "1"]
    with pytest.raises(MetricError):
        z.pack(value="many")
    z.close()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"level": ""}, "level"), ({"level": 5}, "level"), ({"name": ""}, "name"), ({"name": "x" * 300}, "name"),
        ({"source": 7}, "source"), ({"tags": "a"}, "tags"), ({"rate": 0}, "rate"), ({"rate": 2}, "rate"),
        ({"mtype": "Shape"}, "mtype"),
    ],
)  # fmt: skip
def test_wrong_arguments_fail_when_the_decorator_is_applied(wrong: dict[str, Any], named: str) -> None:
    z = Zibrato()
    for decorator in (z.time_me, z.count_me):
        with pytest.raises(MetricError, match=named):
            decorator(**wrong)
    with pytest.raises(MetricError, match="value"):
        z.count_me(value="many")
    with pytest.raises(MetricError, match="not a function"):
        z.time_me(name="x")(5)
    with pytest.raises(MetricError, match="not a function"):
        z.time_me(name="x")(int)
    with pytest.raises(TypeError):
        z.time_me(nmae="x")
    for port in (0, 70_000, "x", None):
        with pytest.raises(MetricError, match="port"):
            Zibrato(port=port)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="interval"):
        Zibrato(interval=-1)
    z.close()


def test_measured_code_never_sees_an_error_of_measuring(
    zibrato: Make, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    z, listener = zibrato(), listen()
    z.gauge(name="g", value=None)
    z.gauge(name="g", value=float("nan"))
    z.gauge(name="", value=1)
    z.histogram(name="h", value="many")
    z.set(name="s", value=Unspeakable())
    with z.Count_me(name="c", value="many"):
        passed = True
    with z.Time_me(level=5):  # type: ignore[arg-type]
        pass
    assert passed
    assert z.statistics().refused == 7
    assert "not a number" in caplog.text
    found = batches(z, listener)
    assert found["zibrato.dropped", ""].sum == 7
    assert list(found) == [("zibrato.dropped", "")]


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no")


def test_calls_that_raise_are_timed_and_marked_and_the_exception_propagates(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()

    @z.time_me(name="t")
    @z.count_me(name="c")
    def fail(wanted: bool) -> int:
        if wanted:
            raise KeyError("x")
        return 1

    for _ in range(3):
        with pytest.raises(KeyError):
            fail(True)
    assert fail(False) == 1
    with pytest.raises(KeyError), z.Time_me(name="block"):
        fail(True)
    with pytest.raises(ZeroDivisionError), z.Count_me(name="counted", value=3):
        _ = 1 / 0
    found = batches(z, listener)
    assert {key: b.count for key, b in found.items()} == {
        ("t", ""): 1, ("t", "error"): 4, ("c", ""): 1, ("c", "error"): 4,
        ("block", "error"): 1, ("counted", "error"): 1,
    }  # fmt: skip
    assert found["counted", "error"].sum == 3


def test_methods_of_every_kind_and_partials_are_measured(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()

    class Shop:
        @z.time_me
        def sell(self) -> str:
            return "sold"

        @z.time_me()
        @classmethod
        def open(cls) -> str:
            return cls.__name__

        @z.count_me(value=2)
        @staticmethod
        def count(n: int) -> int:
            return n

    assert (Shop().sell(), Shop.open(), Shop.count(4), Shop().count(4)) == ("sold", "Shop", 4, 4)
    assert z.time_me(functools.partial(int, "5"))() == 5
    found = batches(z, listener)
    prefix = f"{__name__}.test_methods_of_every_kind_and_partials_are_measured.<locals>.Shop"
    assert found[f"{prefix}.sell", ""].count == 1
    assert found[f"{prefix}.open", ""].count == 1
    assert (found[f"{prefix}.count", ""].count, found[f"{prefix}.count", ""].sum) == (2, 4)
    assert found["builtins.int", ""].count == 1


def test_generators_are_one_measurement_per_run_without_the_consumer(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()
    wait = threading.Event()

    @z.time_me(name="g")
    def numbers(fail: bool = False) -> Iterator[int]:
        try:
            got = yield 1
        except ValueError:
            got = -1
        if fail:
            raise LookupError
        yield got
        return "end"

    assert inspect.isgeneratorfunction(numbers)
    assert list(numbers()) == [1, None]
    run = numbers()
    assert next(run) == 1
    assert run.send(9) == 9  # type: ignore[attr-defined]
    wait.wait(1.5)  # the consumer's own time
    with pytest.raises(StopIteration) as end:
        next(run)
    assert end.value.value == "end"
    thrown = numbers()
    next(thrown)
    assert thrown.throw(ValueError) == -1  # type: ignore[attr-defined]
    thrown.close()  # type: ignore[attr-defined]
    with pytest.raises(LookupError):
        list(numbers(fail=True))
    numbers()  # never begun, never measured
    found = batches(z, listener)
    assert {key: b.count for key, b in found.items()} == {("g", ""): 3, ("g", "error"): 1}
    assert found["g", ""].max < 1.5


def test_coroutines_and_asynchronous_generators_interleave_on_one_thread(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(), listen()

    @z.time_me(name="c")
    async def work(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns == 13:
            raise LookupError
        return turns

    @z.time_me(name="g")
    async def stream(n: int) -> AsyncIterator[int]:
        for number in range(n):
            await asyncio.sleep(0)
            yield number

    @z.count_me(name="n")
    async def counted() -> None:
        await asyncio.sleep(0)

    async def consume(n: int) -> list[int]:
        return [number async for number in stream(n)]

    async def main() -> None:
        done = await asyncio.gather(*(work(n) for n in range(20)), return_exceptions=True)
        assert [n for n in done if n not in range(20)] == [done[13]]
        assert await asyncio.gather(*(consume(n) for n in range(10))) == [list(range(n)) for n in range(10)]
        await asyncio.gather(*(counted() for _ in range(7)))
        half = stream(5)
        await anext(half)
        await half.aclose()  # type: ignore[attr-defined]

    assert inspect.iscoroutinefunction(work)
    assert inspect.isasyncgenfunction(stream)
    run_alone(main())
    found = batches(z, listener)
    assert {key: b.count for key, b in found.items()} == {
        ("c", ""): 19, ("c", "error"): 1, ("g", ""): 11, ("n", ""): 7,
    }  # fmt: skip


def test_awaitable_generators_and_objects_with_an_async_call_are_timed_including_awaits(
    zibrato: Make, listen: Listen
) -> None:
    z, listener = zibrato(), listen()

    @z.count_me(name="c")
    @z.time_me(name="old")
    @types.coroutine
    def old() -> Iterator[Any]:
        yield from asyncio.sleep(0.05).__await__()
        return 5

    class Caller:
        async def __call__(self, n: int) -> int:
            await asyncio.sleep(0.05)
            return n

    class Plain:
        def __call__(self, n: int) -> int:
            return n

    class Many:
        def __call__(self, n: int) -> Iterator[int]:
            yield from range(n)

    call, plain, many = (
        z.time_me(name="call")(Caller()),
        z.time_me(name="plain")(Plain()),
        z.time_me(name="many")(Many()),
    )

    async def main() -> tuple[int, int]:
        return await old(), await call(6)

    assert run_alone(main()) == (5, 6)
    assert inspect.iscoroutinefunction(call)
    assert (plain(7), list(many(3))) == (7, [0, 1, 2])
    found = batches(z, listener)
    assert {key: b.count for key, b in found.items()} == {
        (name, ""): 1 for name in ("old", "c", "call", "plain", "many")
    }  # fmt: skip
    assert found["call", ""].min >= 0.05
    assert found["old", ""].count == 1


def test_tags_sets_histograms_and_rates(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(source="shop"), listen()
    for n in range(1000):
        z.set(name="users", value=n % 10)
        z.histogram(name="size", value=n, tags={"b": 1, "a": "x"})
        with z.Time_me(name="sampled", rate=0.1):
            pass
    found = batches(z, listener)
    assert found["users", ""].sum == 10
    assert found["users", ""].count == 1000
    assert found["size", ""].identity.tags == (("a", "x"), ("b", "1"))
    assert found["size", ""].identity.source == "shop"
    assert (found["size", ""].min, found["size", ""].max, found["size", ""].last) == (0, 999, 999)
    assert found["sampled", ""].identity.rate == 0.1
    assert 40 < found["sampled", ""].count < 200


def test_interval_0_sends_each_measurement_at_once_in_the_format_of_2013(zibrato: Make, listen: Listen) -> None:
    z, listener = zibrato(interval=0), listen()
    z.gauge(level="crit", name="a|b", value=0)
    assert listener.message().startswith(b"crit|Gauge|a%7Cb|0|")
    z.count_me(name="c", value=5)(lambda: None)()
    found = listener.next()
    assert isinstance(found, Measurement)
    assert (found.type, found.name, found.value) == ("Counter", "c", 5)
    z.set(name="u", value="me")
    found = listener.next()
    assert isinstance(found, Batch)
    assert (found.sum, found.sketch) == (1, {"hashes": [hash_of("me")]})
    z.set(name="u", value="secret" * 400_000)
    message = listener.message()
    assert b"secret" not in message
    assert len(message) < 500
    assert "secret" not in z.pack(mtype="set", name="u", value="secret")
    with pytest.raises(ZeroDivisionError), z.Time_me(name="t"):
        _ = 1 / 0
    batch = listener.next()
    assert isinstance(batch, Batch)
    assert (batch.identity.outcome, batch.count) == ("error", 1)
    z.gauge(name="tagged", value=2, tags={"a": "b"})
    batch = listener.next()
    assert isinstance(batch, Batch)
    assert (batch.identity.tags, batch.last) == ((("a", "b"),), 2)
