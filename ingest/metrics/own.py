"""Zarkov measured by its own library. A process that was not told to measure pays one look at a name per call."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .zibrato import Zibrato

F = TypeVar("F", bound=Callable[..., Any])
EXIT_S = 0.2

_zibrato: Zibrato | None = None


def options(source: str, address: Callable[[], str], interval_s: float) -> dict[str, Any]:
    """Arguments of the `Zibrato` of one of our processes."""
    return {"source": source, "address": address, "interval": interval_s, "exit_s": EXIT_S}


def measure(source: str, address: Callable[[], str], interval_s: int) -> None:
    """From now on, measure what is marked with `timed` in this process; `interval_s` 0 = do not."""
    global _zibrato
    if interval_s and _zibrato is None:
        from .zibrato import Zibrato

        _zibrato = Zibrato(**options(source, address, interval_s))


def timed(name: str) -> Callable[[F], F]:
    """Decorator: time each call under `name` where the process measures itself."""

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
