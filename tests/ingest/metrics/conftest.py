"""Fixtures for a broker in a thread, subscribers to it, and publishers that are closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest.metrics.zibrato import Zibrato
from tests.support.ingest.metrics import Listener, RunningBroker


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Yield a function that registers an object to be closed or stopped at the end, the last one first."""
    given: list[Any] = []

    def remember(thing: Any) -> Any:
        given.append(thing)
        return thing

    yield remember
    for thing in reversed(given):
        thing.stop() if hasattr(thing, "stop") else thing.close()


@pytest.fixture
def broker(closing: Callable[[Any], Any]) -> RunningBroker:
    return closing(RunningBroker())


@pytest.fixture
def listen(broker: RunningBroker, closing: Callable[[Any], Any]) -> Callable[..., Listener]:
    return lambda *prefixes: closing(Listener(broker.backends, *prefixes))


@pytest.fixture
def zibrato(broker: RunningBroker, closing: Callable[[Any], Any]) -> Callable[..., Zibrato]:
    """Return a function that makes publishers; they send on flush, or at their interval."""

    def make(**options: Any) -> Zibrato:
        return closing(Zibrato(**{"address": broker.publishers, "interval": 3600, **options}))

    return make
