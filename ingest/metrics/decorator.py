"""Wrap functions of every kind so that calls are timed or counted. The wrappers are the hot path: keep them short.

A function is timed from call to return, a coroutine from its first step to its end, awaiting included. A generator,
asynchronous or not, is one measurement per run: the time spent inside it from its first step on, without that of its
consumer; one made awaitable by `types.coroutine` stays awaitable. A callable object is treated like its `__call__`. If
the code raises, `failed` is called instead of `done`, and the exception propagates; closing a generator is no failure.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from random import random
from time import perf_counter
from typing import Any

from .accumulate import SUMMARIZE_AT, Distribution
from .exceptions import MetricError

Function = Callable[..., Any]
Record = Callable[[float], object]


def check(function: Any, decorator: str) -> None:
    """Raise `MetricError` if `function` cannot be wrapped."""
    if isinstance(function, type) or not callable(function):
        raise MetricError(f"{decorator}: {function!r} is not a function: decorate functions and methods")


def is_plain(function: Function) -> bool:
    """Return True if a call does all the work, unlike one of a generator or coroutine function."""
    return not any(_is(kind, function) for kind in (_ASYNC_GENERATOR, _GENERATOR, _COROUTINE))


_ASYNC_GENERATOR, _GENERATOR, _COROUTINE = (
    inspect.isasyncgenfunction, inspect.isgeneratorfunction, inspect.iscoroutinefunction,
)  # fmt: skip


def _is(kind: Callable[[Any], bool], function: Function) -> bool:
    """Return True if `function`, or the `__call__` of a callable object, is of this kind."""
    return kind(function) or kind(type(function).__call__)


def _is_awaited(function: Function) -> bool:
    """Return True for a generator function that `types.coroutine` made awaitable."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def timed_directly(function: Function, done: Distribution, failed: Record) -> Function:
    """Wrap a plain function so that its times go straight into an accumulator, with the least overhead."""
    append, values, summarize = done.values.append, done.values, done.summarize
    clock, most = perf_counter, SUMMARIZE_AT

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        try:
            result = function(*args, **kwargs)
        except BaseException:
            failed(clock() - start)
            raise
        append(clock() - start)
        if len(values) >= most:
            summarize()
        return result

    return wrapper


def timed(function: Function, done: Record, failed: Record, rate: float) -> Function:
    """Wrap a function of any kind so that a share `rate` of its calls is timed, in seconds."""
    if _is(_ASYNC_GENERATOR, function):
        return _timed_async_generator(function, done, failed, rate)
    if _is(_GENERATOR, function):
        found = _timed_generator(function, done, failed, rate)
        return types.coroutine(found) if _is_awaited(function) else found
    if _is(_COROUTINE, function):
        return _timed_coroutine(function, done, failed, rate)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if rate < 1 and random() >= rate:
            return function(*args, **kwargs)
        start = perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException:
            failed(perf_counter() - start)
            raise
        done(perf_counter() - start)
        return result

    return wrapper


def _timed_coroutine(function: Function, done: Record, failed: Record, rate: float) -> Function:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if rate < 1 and random() >= rate:
            return await function(*args, **kwargs)
        start = perf_counter()
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            failed(perf_counter() - start)
            raise
        done(perf_counter() - start)
        return result

    return wrapper


def _timed_generator(function: Function, done: Record, failed: Record, rate: float) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        if rate < 1 and random() >= rate:
            return (yield from inner)
        spent, step, argument = 0.0, inner.send, None
        while True:
            start = perf_counter()
            try:
                item = step(argument)
            except StopIteration as stop:
                done(spent + perf_counter() - start)
                return stop.value
            except BaseException:
                failed(spent + perf_counter() - start)
                raise
            spent += perf_counter() - start
            try:
                argument = yield item
                step = inner.send
            except GeneratorExit:
                start = perf_counter()
                try:
                    inner.close()
                except BaseException:
                    failed(spent + perf_counter() - start)
                    raise
                done(spent + perf_counter() - start)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and passed on
                step, argument = inner.throw, error

    return wrapper


def _timed_async_generator(function: Function, done: Record, failed: Record, rate: float) -> Function:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        ended, broke = (done, failed) if rate >= 1 or random() < rate else (ignore, ignore)
        spent, step, argument = 0.0, inner.asend, None
        while True:
            start = perf_counter()
            try:
                item = await step(argument)
            except StopAsyncIteration:
                ended(spent + perf_counter() - start)
                return
            except BaseException:
                broke(spent + perf_counter() - start)
                raise
            spent += perf_counter() - start
            try:
                argument = yield item
                step = inner.asend
            except GeneratorExit:
                start = perf_counter()
                try:
                    await inner.aclose()
                except BaseException:
                    broke(spent + perf_counter() - start)
                    raise
                ended(spent + perf_counter() - start)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, and passed on
                step, argument = inner.athrow, error

    return wrapper


def ignore(value: float) -> None:
    """Ignore the value of a run that is not measured."""


def counted(function: Function, done: Callable[[], object], failed: Callable[[], object], rate: float) -> Function:
    """Wrap a function of any kind so that calls are counted when they return, or their coroutine or generator ends."""
    if rate == 1 and is_plain(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except BaseException:
                failed()
                raise
            done()
            return result

        return wrapper
    return timed(function, lambda _: done(), lambda _: failed(), rate)
