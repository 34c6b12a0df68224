"""Compute large answers in threads of the operating system, so that the greenlets of the web process go on meanwhile.

Under gunicorn's gevent worker one greenlet runs at a time, and a loop over 250,000 documents would hold up every other
request for seconds. A thread gives way after each `SWITCH_S`. It only computes: sockets and Django's database belong to
the greenlets. A single call of C does not give way, so `PIECE_BYTES` is the most that one may be given. Nor does a full
garbage collection, which looks at each of a million points: it waits until nothing large is computed.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from aggregates.web import large_work
from aggregates.web.exceptions import UnavailableError
from ingest.free_memory import return_free_memory

P = ParamSpec("P")
T = TypeVar("T")

PIECE_BYTES: Final = 2**17  # that greenlets compute themselves, in about 5 ms: a thread costs more than that saves
THREADS: Final = 2  # so that one long computation does not delay all shorter ones
SWITCH_S: Final = 0.001
LARGE_AT_ONCE: Final = 1  # answers whose documents are in memory as a whole, which takes hundreds of megabytes
LARGE_WITHIN_S: Final = 60.0
LARGE_BYTES: Final = 2**20  # of the documents of an answer, or of its JSON
SMALL_TOGETHER_BYTES: Final = 8 * 2**20  # of all answers that have no place; they take some ten times as much
QUIET_S: Final = 5.0  # without a large computation, after which garbage is collected as before
MOST_POSTPONED_S: Final = 600.0

_large = threading.BoundedSemaphore(LARGE_AT_ONCE)
_small_bytes = 0  # of all answers that have no place
_usual_thresholds: tuple[int, int, int] | None = None  # while full collections are postponed
_computing = 0
_computed_at = 0.0  # when the last large computation ended


def compute(size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `function(*args, **kwargs)`, computed in a thread if it is about more than `PIECE_BYTES`.

    Other greenlets run meanwhile. The function must not wait for anything, nor use sockets, locks or the ORM.
    """
    if size_bytes <= PIECE_BYTES or not _is_patched():
        return function(*args, **kwargs)
    global _computing, _computed_at
    _computing += 1
    _postpone_full_collections()
    try:
        return _threads.call(function, *args, **kwargs)
    finally:
        _computing -= 1
        _computed_at = time.monotonic()


class ComputeThreads:
    """Up to `count` threads, started at the first use after a fork. Callers beyond that wait in order of arrival."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: Any = None

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `function(*args, **kwargs)`, computed in one of the threads while other greenlets run.

        Where nothing is patched, there are no greenlets: compute it at once.
        """
        if not _is_patched():
            return function(*args, **kwargs)
        if self._pool is None:
            from gevent.threadpool import ThreadPool

            sys.setswitchinterval(SWITCH_S)
            self._pool = ThreadPool(self._count)
        result: tuple[T, None] | tuple[None, Exception] = self._pool.apply(_outcome, (function, args, kwargs))
        if result[1] is not None:
            raise result[1]
        return result[0]


_threads = ComputeThreads(THREADS)


@contextmanager
def large_answer() -> Iterator[None]:
    """Hold one of the places for answers whose documents are in memory as a whole; wait for it, in order of arrival.

    It takes turns with large bodies, of which this request keeps none.

    Raise `UnavailableError` after `LARGE_WITHIN_S`.
    """
    large_work.end_body()
    if not _large.acquire(timeout=LARGE_WITHIN_S):
        raise UnavailableError("too many large answers are being computed: use a shorter range, or try again later")
    try:
        with large_work.of_process.inside(large_work.ANSWERS, LARGE_WITHIN_S):
            yield
    finally:
        _large.release()


class AnswerPlace:
    """The place of an answer among the large ones, taken once it turns out to be large, or is one of too many.

    Use it as a context manager, in one greenlet, around all that the answer is made of.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self._is_large = False
        self._size_bytes = 0

    def __enter__(self) -> AnswerPlace:
        return self

    def __exit__(self, *error: object) -> None:
        self._let_go()
        self._held.close()
        if self._is_large:
            _threads.call(return_free_memory)

    def take(self, size_bytes: int) -> None:
        """Count what was read, or is about to be. Raise `UnavailableError` if there is no place for it."""
        global _small_bytes
        if self._is_large:
            return
        if self._size_bytes + size_bytes <= LARGE_BYTES and _small_bytes + size_bytes <= SMALL_TOGETHER_BYTES:
            self._size_bytes += size_bytes
            _small_bytes += size_bytes
            return
        self._held.enter_context(large_answer())
        self._is_large = True
        self._let_go()

    def _let_go(self) -> None:
        global _small_bytes
        _small_bytes -= self._size_bytes
        self._size_bytes = 0


def _outcome(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Exception | None]:
    """Return the result or the error: gevent would print what is raised in its threads, expected or not."""
    try:
        return function(*args, **kwargs), None
    except Exception as error:  # noqa: BLE001 - raised again where the answer is waited for
        return None, error


def _postpone_full_collections() -> None:
    """Collect only young garbage until it is quiet, but at most for `MOST_POSTPONED_S`.

    The collection after that is short: it leaves out the site itself, which is loaded by the first large answer.
    """
    global _usual_thresholds
    if _usual_thresholds is not None:
        return
    import gevent

    if not gc.get_freeze_count():  # once: garbage of the moment is kept for good
        gc.freeze()
    _usual_thresholds = gc.get_threshold()
    gc.set_threshold(*_usual_thresholds[:2], sys.maxsize >> 33)
    gevent.spawn(_collect_when_quiet, _usual_thresholds)


def _collect_when_quiet(thresholds: tuple[int, int, int]) -> None:
    global _usual_thresholds
    ends = time.monotonic() + MOST_POSTPONED_S
    while (now := time.monotonic()) < ends and (_computing or now < _computed_at + QUIET_S):
        time.sleep(QUIET_S)
    gc.set_threshold(*thresholds)
    _usual_thresholds = None


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))
