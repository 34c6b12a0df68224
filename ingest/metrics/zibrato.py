"""`Zibrato`: what a program measures itself with. The names and arguments are those of 2013, with a few more.

    from zibrato import Zibrato
    z = Zibrato()

    @z.time_me(level="debug", name="myfunct_timer", source="myprog")
    def myfunct(): ...

Wrong arguments raise `MetricError` where a decorator is applied. What runs inside the measured code neither blocks nor
raises: what cannot be taken there, such as a value that is no number, is counted as refused and logged once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from random import random
from types import TracebackType
from typing import Any

from . import wrapping
from .accumulate import Accumulator, Distribution, Ticks, accumulator
from .exceptions import MetricError
from .naming import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    NOT_SPECIFIED,
    SET,
    TIMER,
    Identity,
    identity,
    number,
    qualified,
    text,
)
from .publisher import Publisher, Statistics
from .single import SingleValues, message

EXIT_S = 1.0
LEVEL = "info"  # where none is given
MOST_SAID = 100  # different reasons for refusal that are logged
CLOSED = "this Zibrato is closed: what is measured after close() goes nowhere"
log = logging.getLogger("zibrato")


class Zibrato:
    """Measures; one object per program is enough. Threads, greenlets, coroutines and children after fork may use it.

    Every `interval` seconds (0 = each measurement at once, as in 2013) what was measured goes to the broker at
    `host` and `port`; until somebody listens there it waits, within bounds. At a normal exit what is left is sent,
    which takes `exit_s` at most. `source` is that of all measurements which name none. `address`, a ZeroMQ address or a
    function that says it, replaces host and port. `context` is taken as in 2013 and not used: the sender has its own.
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
    ) -> None:
        self._source = text("source", source)
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval <= 3600:
            raise MetricError(f"interval: {interval!r} is not allowed: 0 to 3600 seconds, 0 = send each at once")
        if isinstance(exit_s, bool) or not isinstance(exit_s, int | float) or not 0 <= exit_s <= 3600:
            raise MetricError(f"exit_s: {exit_s!r} is not allowed: 0 to 3600 seconds")
        self._interval = interval
        self._publisher = Publisher(_address(host, port, address), interval, exit_s)
        self._accumulators: dict[Identity, Accumulator | SingleValues] = {}
        self._said: set[str] = set()
        self._connected = True

    # Decorators

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
        """Decorator: how many seconds each call takes; see `wrapping` for generators and coroutines.

        `name` is the function's qualified name unless given; `rate` the share of calls that are measured. `value` is
        taken as in 2013 and replaced by the time.
        """
        mtype = _or(mtype, TIMER)
        self._check(mtype, level, name, source, tags, rate)

        def decorate(function: Any) -> Any:
            if isinstance(function, staticmethod | classmethod):
                return type(function)(decorate(function.__func__))
            wrapping.check(function, "time_me")
            who = self._identity(mtype, level, name or qualified(function), source, tags, rate)
            done, failed = self._values(who), self._failed(who)
            if isinstance(done, Distribution) and rate == 1 and wrapping.is_plain(function):
                return wrapping.timed_directly(function, done, failed)
            return wrapping.timed(function, done.add, failed, rate)

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
        """Decorator: each call that returns counts for `value`; calls that raise are counted apart, as errors."""
        mtype = _or(mtype, COUNTER)
        self._check(mtype, level, name, source, tags, rate)
        worth = number("value", value)

        def decorate(function: Any) -> Any:
            if isinstance(function, staticmethod | classmethod):
                return type(function)(decorate(function.__func__))
            wrapping.check(function, "count_me")
            who = self._identity(mtype, level, name or qualified(function), source, tags, rate)
            failed = self._failed(who)
            return wrapping.counted(function, self._counter(who, worth), lambda: failed(worth), rate)

        return decorate if function is None else decorate(function)

    # Context managers

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
    ) -> _Timing:
        """Context manager: how many seconds its block takes. Make one per `with`; never raises."""
        try:
            who = self._identity(_or(mtype, TIMER), level, _or(name, "default_timer"), source, tags, rate)
            return _Timing(self._open_values(who).add, self._failed(who), rate)
        except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
            self._refuse(error)
            return _Timing(_nothing, _nothing, 1.0)

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
    ) -> _Counting:
        """Context manager: its block, once through, counts for `value`; what raises is counted apart, as an error."""
        try:
            who = self._identity(_or(mtype, COUNTER), level, _or(name, "default_counter"), source, tags, rate)
            worth = number("value", value)
            return _Counting(self._open_values(who).add, self._failed(who), worth, rate)
        except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
            self._refuse(error)
            return _Counting(_nothing, _nothing, 0, 1.0)

    # Values

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
        """A reading, such as the length of a queue."""
        self._take(_or(mtype, GAUGE), level, _or(name, "default"), value, source, tags)

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
        """A value of which quantiles are wanted, such as the size of an answer."""
        self._take(HISTOGRAM, level, name, value, source, tags, rate)

    def set(
        self,
        *,
        level: str | None = LEVEL,
        name: str,
        value: Any,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """A value of which the different ones are counted, such as a user's name. Only its hash leaves the process."""
        self._take(SET, level, name, value, source, tags)

    def send(
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = GAUGE,
        name: str | None = "default",
        value: Any = 1,
        source: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """A measurement of any type, as in 2013."""
        self._take(_or(mtype, GAUGE), level, _or(name, "default"), value, source, tags)

    def pack(
        self,
        *,
        level: str | None = LEVEL,
        mtype: str | None = GAUGE,
        name: str | None = "default",
        value: Any = 1,
        source: str | None = None,
    ) -> str:
        """The message of one measurement, `level|type|name|value|epoch|source`. Raises `MetricError`."""
        who = identity(_or(mtype, GAUGE), _or(level, LEVEL), _or(name, "default"), _or(source, self._source))
        return message(who, value if who.type == SET else number("value", value)).decode()

    # The line to the broker

    def connected(self) -> bool:
        """Whether this object is in use: True until `close`, as in 2013. See `statistics` for what is sent."""
        return self._connected

    def flush(self, timeout_s: float = EXIT_S) -> bool:
        """Wait at most `timeout_s` until what was measured so far is handed to those who want it; False with nobody."""
        return self._publisher.flush(timeout_s)

    def statistics(self) -> Statistics:
        """What was sent, waits, was dropped or refused so far."""
        return self._publisher.statistics()

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is left, for at most `timeout_s` (`exit_s` when None), and end the sender. May be called twice."""
        self._connected = False
        self._publisher.close(timeout_s)

    def __enter__(self) -> Zibrato:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Inside

    def _check(self, mtype: str, level: Any, name: Any, source: Any, tags: Any, rate: Any) -> None:
        """What is wrong with a decorator's arguments is said at its own line, before there is a function."""
        self._identity(mtype, level, "name" if name is None else name, source, tags, rate)

    def _identity(self, mtype: Any, level: Any, name: Any, source: Any, tags: Any, rate: Any) -> Identity:
        """The checked identity; None means the default, as in 2013."""
        return identity(mtype, _or(level, LEVEL), name, _or(source, self._source), tags, rate)

    def _values(self, who: Identity) -> Any:
        """Whatever has `add(value)` for this identity."""
        found = self._accumulators.get(who)
        if found is None:
            # Two threads may make one each: both are emptied, both are counted, one is found again.
            found = SingleValues(who, self._publisher) if not self._interval else self._watched(accumulator(who))
            self._accumulators[who] = found
        return found

    def _open_values(self, who: Identity) -> Any:
        """`_values` for what is measured now, not only prepared."""
        if not self._connected:
            raise MetricError(CLOSED)
        return self._values(who)

    def _failed(self, who: Identity) -> Callable[[float | int], object]:
        """Takes what calls that raised are measured with; its accumulator is made when one does."""

        def take(value: float | int) -> None:
            try:
                self._open_values(who.failed()).add(value)
            except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
                self._refuse(error)

        return take

    def _counter(self, who: Identity, worth: float | int) -> Callable[[], object]:
        """Whatever counts one call of a decorated function."""
        if not self._interval or who.type != COUNTER:
            taker = self._values(who)
            return lambda: taker.add(worth)
        ticks = Ticks(who, worth)
        self._watched(ticks)
        return ticks.tick

    def _watched(self, made: Accumulator) -> Accumulator:
        if not self._publisher.add(made):
            raise MetricError(f"name: {made.identity.name!r} is one metric too many: put what varies into values")
        return made

    def _take(self, mtype: Any, level: Any, name: Any, value: Any, source: Any, tags: Any, rate: Any = 1.0) -> None:
        try:
            who = self._identity(mtype, level, name, source, tags, rate)
            if rate < 1 and random() >= rate:
                return
            self._open_values(who).add(value if who.type == SET else number("value", value))
        except Exception as error:  # noqa: BLE001 - measured code never fails because it is measured
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Count a measurement that cannot be taken; say why once per reason."""
        self._publisher.refuse()
        try:
            said = f"{error}" if isinstance(error, MetricError) else f"{type(error).__name__} {error}"
        except Exception:  # noqa: BLE001 - an error that cannot say what it is
            said = type(error).__name__
        if len(self._said) < MOST_SAID and said not in self._said:
            self._said.add(said)
            log.warning("a measurement is refused, the program goes on: %s", said)


def _or(given: Any, default: Any) -> Any:
    """In 2013 an argument of None was the same as none."""
    return default if given is None else given


def _nothing(value: float) -> None:
    """Stands in for a metric that cannot be."""


class _Timing:
    """One timed block."""

    __slots__ = ("_done", "_failed", "_rate", "_start")

    def __init__(self, done: Callable[[float], object], failed: Callable[[float], object], rate: float) -> None:
        self._done, self._failed, self._rate = done, failed, rate
        self._start = 0.0

    def __enter__(self) -> _Timing:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = time.perf_counter() - self._start
        if self._rate < 1 and random() >= self._rate:
            return
        (self._done if kind is None or kind is GeneratorExit else self._failed)(spent)


class _Counting:
    """One counted block."""

    __slots__ = ("_done", "_failed", "_rate", "_worth")

    def __init__(
        self, done: Callable[[float], object], failed: Callable[[float], object], worth: float, rate: float
    ) -> None:
        self._done, self._failed, self._worth, self._rate = done, failed, worth, rate

    def __enter__(self) -> _Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rate < 1 and random() >= self._rate:
            return
        (self._done if kind is None or kind is GeneratorExit else self._failed)(self._worth)


def _address(host: str, port: int | str, address: str | Callable[[], str] | None) -> Callable[[], str]:
    if callable(address):
        return address
    if isinstance(address, str) and "://" in address:
        return lambda: address
    if address is not None:
        raise MetricError(
            f"address: {address!r} is not allowed: such as tcp://127.0.0.1:5550, or a function that says it"
        )
    text("host", host)
    found = number("port", port)
    if not isinstance(found, int) or not 1 <= found <= 65535:
        raise MetricError(f"port: {port!r} is not allowed: 1 to 65535")
    return lambda: f"tcp://{f'[{host}]' if ':' in host else host}:{found}"
