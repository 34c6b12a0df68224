"""Measure Zarkov with its own library. A process that does not measure pays for one comparison per call."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .zibrato import Zibrato

F = TypeVar("F", bound=Callable[..., Any])
EXIT_S = 0.2

_zibrato: Zibrato | None = None


def options(source: str, address: Callable[[], str], interval_s: float) -> dict[str, Any]:
    """Return the arguments of `Zibrato` for one of Zarkov's processes.

    The ingester ends after the broker, because others need it until then: its last measurements are always lost, which
    deserves no warning.
    """
    return {
        "source": source, "address": address, "interval": interval_s, "exit_s": EXIT_S, "loss_level": logging.INFO,
    }  # fmt: skip


def measure(source: str, address: Callable[[], str], interval_s: int) -> None:
    """Measure from now on what is decorated with `timed` in this process. Do nothing if `interval_s` is 0."""
    global _zibrato
    if interval_s and _zibrato is None:
        from .zibrato import Zibrato

        _zibrato = Zibrato(**options(source, address, interval_s))


def timed(name: str) -> Callable[[F], F]:
    """Return a decorator that times each call under `name` if the process measures itself."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if _zibrato is None:
                return function(*args, **kwargs)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                _zibrato.send(mtype="Timer", name=name, value=time.perf_counter() - start)

        return wrapper  # type: ignore[return-value]

    return decorate
