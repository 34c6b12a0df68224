"""Measure a program from inside: timers, counters, gauges, histograms and sets, with the names of 2013 and a few more.

    from zibrato import Zibrato
    z = Zibrato()

    @z.time_me(level="debug", name="myfunct_timer", source="myprog")
    def myfunct(): ...

Wrong arguments raise `MetricError` where a decorator is applied. Calls inside the measured code neither block nor
raise: a measurement that cannot be accepted, such as a value that is not a number, is counted as refused, and each
reason is logged once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import random
from types import TracebackType
from typing import Any

from . import decorator
from .accumulate import Accumulator, CallCounter, Distribution, accumulator
from .exceptions import MetricError
from .identity import NOT_SPECIFIED, Identity, identity, number, qualified_name, text
from .metric_type import COUNTER, GAUGE, HISTOGRAM, SET, TIMER
from .publisher import Publisher, Statistics
from .unbatched import UnbatchedValues, unbatched_message

EXIT_S = 1.0
LEVEL = "info"  # if none is given
MOST_LOGGED = 100  # different reasons for refusal that are logged
CLOSED = "this Zibrato is closed: measurements after close() are not sent"
log = logging.getLogger("zibrato")


class Zibrato:
    """Measure a program and send the measurements to the broker at `host` and `port`.

    One object per program is enough; threads, greenlets, coroutines and forked children can share it. Measurements are
    gathered and sent every `interval` seconds (0 = each at once, as in 2013). Until a backend wants them they wait in
    bounded memory. At a normal exit the rest is sent, for at most `exit_s` seconds; anything left is logged
    at `loss_level`.

    `source` is the default source of all measurements. `address`, a ZeroMQ address or a function that returns one,
    replaces `host` and `port`. `context` is accepted as in 2013 and ignored. Raise `MetricError` for wrong arguments.

    Most methods take these arguments; None means the default:
    - `level`: text by which backends select measurements, "info" by default
    - `name`, `source`: texts that identify the metric, 1 to 256 characters
    - `tags`: a dictionary such as {"shop": "berlin"}; each combination of values is a separate metric
    - `rate`: the share of calls to measure, above 0 to 1, chosen at random; results are scaled up accordingly
    - `mtype`: the type of the metric instead of the method's own: Timer, Counter, Gauge, Set or Histogram
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | str = 5550,
        context: Any = None,
        *,
        interval: float = 1.0,
        source: str = NOT_SPECIFIED,
        address: str | Callable[[], str] | None = None,
        exit_s: float = EXIT_S,
        loss_level: int = logging.WARNING,
    ) -> None:
        self._source = text("source", source)
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval <= 3600:
            raise MetricError(f"interval: {interval!r} must be 0 to 3600 seconds; 0 = send each at once")
        if isinstance(exit_s, bool) or not isinstance(exit_s, int | float) or not 0 <= exit_s <= 3600:
            raise MetricError(f"exit_s: {exit_s!r} must be 0 to 3600 seconds")
        self._interval = interval
        self._publisher = Publisher(_address(host, port, address), interval, exit_s, loss_level)
        self._accumulators: dict[Identity, Accumulator | UnbatchedValues] = {}
        self._logged: set[str] = set()
        self._connected = True

    def time_me(
        self,
        function: Any = None,
        *,
        level: str | None = LEVEL,
        mtype: str | None = TIMER,
        name: str | None = None,
        value: Any = None,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
        rate: float = 1.0,
    ) -> Any:
        """Decorate a function to time each call, in seconds: `@z.time_me` or `@z.time_me(name="checkout")`.

        A coroutine is timed from its first step to its end, awaiting included; a generator once per run, by the time
        spent inside it. Calls that raise are timed too and marked as errors; the exception propagates. The default
        name is module and qualified name of the function. `value` is accepted as in 2013 and ignored. Raise
        `MetricError` for wrong arguments when the decorator is applied, never in a call.
        """

        def wrap(function: Any, metric: Identity) -> Any:
            done, failed = self._values(metric), self._failed(metric)
            if isinstance(done, Distribution) and rate == 1 and decorator.is_plain(function):
                return decorator.timed_directly(function, done, failed)
            return decorator.timed(function, done.add, failed, rate)

        decorate = self._decorator("time_me", wrap, _or(mtype, TIMER), level, name, source, tags, rate)
        return decorate if function is None else decorate(function)

    def count_me(
        self,
        function: Any = None,
        *,
        level: str | None = LEVEL,
        mtype: str | None = COUNTER,
        name: str | None = None,
        value: Any = 1,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
        rate: float = 1.0,
    ) -> Any:
        """Decorate a function to count `value` for each call that returns: `@z.count_me` or `@z.count_me(value=5)`.

        A coroutine or generator counts once it ends. Calls that raise are counted separately, as errors; the exception
        propagates. The default name is module and qualified name of the function. Raise `MetricError` for wrong
        arguments when the decorator is applied, never in a call.
        """

        def wrap(function: Any, metric: Identity) -> Any:
            failed = self._failed(metric)
            return decorator.counted(function, self._counter(metric, amount), lambda: failed(amount), rate)

        decorate = self._decorator("count_me", wrap, _or(mtype, COUNTER), level, name, source, tags, rate)
        amount = number("value", value)
        return decorate if function is None else decorate(function)

    def Time_me(  # noqa: N802 - the name of 2013
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = TIMER,
        name: str | None = "default_timer",
        value: Any = None,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
        rate: float = 1.0,
    ) -> _Block:
        """Return a context manager that times its block, in seconds: `with z.Time_me(name="checkout"):`.

        Make a new one for each `with`. Blocks that raise are timed too and marked as errors; the exception propagates.
        Wrong arguments do not raise: nothing is measured then, and the refusal is counted and logged.
        """
        return self._block(None, _or(mtype, TIMER), level, _or(name, "default_timer"), source, tags, rate)

    def Count_me(  # noqa: N802 - the name of 2013
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = COUNTER,
        name: str | None = "default_counter",
        value: Any = 1,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
        rate: float = 1.0,
    ) -> _Block:
        """Return a context manager that counts `value` when its block is done: `with z.Count_me(name="orders"):`.

        Make a new one for each `with`. Blocks that raise are counted separately, as errors; the exception propagates.
        Wrong arguments do not raise: nothing is counted then, and the refusal is counted and logged.
        """
        amount = partial(number, "value", value)
        return self._block(amount, _or(mtype, COUNTER), level, _or(name, "default_counter"), source, tags, rate)

    def gauge(
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = GAUGE,
        name: str | None = "default",
        value: Any = 1,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a reading that goes up and down, such as the length of a queue. Never blocks or raises.

        Called `send`, as in 2013: record a measurement of type `mtype`; times are in seconds.
        """
        self._record(_or(mtype, GAUGE), level, _or(name, "default"), value, source, tags)

    send = gauge

    def histogram(
        self,
        *,
        level: str | None = LEVEL,
        name: str,
        value: Any,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
        rate: float = 1.0,
    ) -> None:
        """Record a value whose quantiles are of interest, such as the size of a response. Never blocks or raises."""
        self._record(HISTOGRAM, level, name, value, source, tags, rate)

    def set(
        self,
        *,
        level: str | None = LEVEL,
        name: str,
        value: Any,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a value to count the distinct ones, such as a user's name. Never blocks or raises.

        Values are compared by their text, so that 1 and "1" are the same. Only a hash of it leaves the process.
        """
        self._record(SET, level, name, value, source, tags)

    def pack(
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = GAUGE,
        name: str | None = "default",
        value: Any = 1,
        source: str | None = None,
    ) -> str:
        """Return the message of one measurement, `level|type|name|value|epoch|source`. Raise `MetricError`."""
        metric = identity(_or(mtype, GAUGE), _or(level, LEVEL), _or(name, "default"), _or(source, self._source))
        return unbatched_message(metric, value if metric.type == SET else number("value", value)).decode()

    def connected(self) -> bool:
        """Return True until `close`, as in 2013, with or without a broker. See `statistics` for what was sent."""
        return self._connected

    def flush(self, timeout_s: float = EXIT_S) -> bool:
        """Wait up to `timeout_s` seconds until everything measured so far is sent. Return True if it was.

        Only what a backend wants must be sent; a level without subscribers keeps waiting. Without any backend,
        return False after `timeout_s`, unless nothing waits.
        """
        return self._publisher.flush(timeout_s)

    def statistics(self) -> Statistics:
        """Return how many messages were sent, wait or were dropped, and how many measurements were refused."""
        return self._publisher.statistics()

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is left, for at most `timeout_s` seconds (None = `exit_s`), and stop. Can be called twice.

        What is measured afterwards is not sent, only counted in `statistics`.
        """
        self._connected = False
        self._publisher.close(timeout_s)

    def __enter__(self) -> Zibrato:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _decorator(
        self, title: str, wrap: Callable[[Any, Identity], Any], mtype: str, level: Any, name: Any, *others: Any
    ) -> Callable[[Any], Any]:
        """Return a decorator that returns `wrap(function, metric)`. Raise `MetricError` at the decorator's own line."""
        self._identity(mtype, level, "name" if name is None else name, *others)

        def decorate(function: Any) -> Any:
            if isinstance(function, staticmethod | classmethod):
                return type(function)(decorate(function.__func__))
            decorator.check(function, title)
            return wrap(function, self._identity(mtype, level, name or qualified_name(function), *others))

        return decorate

    def _block(
        self, amount: Callable[[], float] | None, mtype: str, level: Any, name: Any, source: Any, tags: Any, rate: Any
    ) -> _Block:
        """Return a block that is measured as `amount()` or as its duration; not at all if arguments are wrong."""
        try:
            metric = self._identity(mtype, level, name, source, tags, rate)
            value = amount() if amount else None
            return _Block(self._values_if_open(metric).add, self._failed(metric), rate, value)
        except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
            self._refuse(error)
            return _Block(decorator.ignore, decorator.ignore, 1.0, None)

    def _identity(self, mtype: Any, level: Any, name: Any, source: Any, tags: Any, rate: Any) -> Identity:
        """Return the checked identity; None means the default, as in 2013."""
        return identity(mtype, _or(level, LEVEL), name, _or(source, self._source), tags, rate)

    def _values(self, metric: Identity) -> Any:
        """Return an object with `add(value)` for this identity."""
        found = self._accumulators.get(metric)
        if found is None:
            # If two threads create one each, both are emptied and counted, and one is used from then on.
            found = (
                UnbatchedValues(metric, self._publisher) if not self._interval else self._register(accumulator(metric))
            )
            self._accumulators[metric] = found
        return found

    def _values_if_open(self, metric: Identity) -> Any:
        """Return `_values` for a measurement that is made now. Raise `MetricError` after `close`."""
        if not self._connected:
            raise MetricError(CLOSED)
        return self._values(metric)

    def _failed(self, metric: Identity) -> Callable[[float | int], object]:
        """Return a function that records calls that raise; its accumulator is created when the first one does."""

        def record(value: float | int) -> None:
            try:
                self._values_if_open(metric.failed()).add(value)
            except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
                self._refuse(error)

        return record

    def _counter(self, metric: Identity, amount: float | int) -> Callable[[], object]:
        """Return a function that counts one call of a decorated function."""
        if not self._interval or metric.type != COUNTER:
            taker = self._values(metric)
            return lambda: taker.add(amount)
        ticks = CallCounter(metric, amount)
        self._register(ticks)
        return ticks.tick

    def _register(self, made: Accumulator) -> Accumulator:
        if not self._publisher.add(made):
            raise MetricError(f"name: {made.identity.name!r} is one metric too many: keep varying values out of names")
        return made

    def _record(self, mtype: Any, level: Any, name: Any, value: Any, source: Any, tags: Any, rate: Any = 1.0) -> None:
        try:
            metric = self._identity(mtype, level, name, source, tags, rate)
            if rate < 1 and random() >= rate:
                return
            self._values_if_open(metric).add(value if metric.type == SET else number("value", value))
        except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Count a measurement that cannot be accepted, and log each reason once."""
        self._publisher.refuse()
        try:
            reason = f"{error}" if isinstance(error, MetricError) else f"{type(error).__name__} {error}"
        except Exception:  # noqa: BLE001 - an error whose text cannot be made
            reason = type(error).__name__
        if len(self._logged) < MOST_LOGGED and reason not in self._logged:
            self._logged.add(reason)
            log.warning("measurement refused reason=%s", reason)


def _or(given: Any, default: Any) -> Any:
    """Return the default for None: in 2013 an argument of None was the same as none."""
    return default if given is None else given


class _Block:
    """One block that is measured: as `amount`, or as the time spent in it if `amount` is None."""

    __slots__ = ("_amount", "_done", "_failed", "_rate", "_start")

    def __init__(
        self, done: Callable[[float], object], failed: Callable[[float], object], rate: float, amount: float | None
    ) -> None:
        self._done, self._failed, self._rate, self._amount = done, failed, rate, amount
        self._start = 0.0

    def __enter__(self) -> _Block:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        value = time.perf_counter() - self._start if self._amount is None else self._amount
        if self._rate < 1 and random() >= self._rate:
            return
        (self._done if kind is None or kind is GeneratorExit else self._failed)(value)


def _address(host: str, port: int | str, address: str | Callable[[], str] | None) -> Callable[[], str]:
    if callable(address):
        return address
    if isinstance(address, str) and "://" in address:
        return lambda: address
    if address is not None:
        raise MetricError(
            f"address: {address!r} is not allowed: use tcp://127.0.0.1:5550, or a function that returns an address"
        )
    text("host", host)
    found = number("port", port)
    if not isinstance(found, int) or not 1 <= found <= 65535:
        raise MetricError(f"port: {port!r} must be 1 to 65535")
    return lambda: f"tcp://{f'[{host}]' if ':' in host else host}:{found}"
