"""A router that tests talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mapreduce.settings import EngineSettings
from tests.support.mapreduce.peer import Peer


@pytest.fixture
def peer(make_settings: Callable[..., EngineSettings]) -> Iterator[Peer]:
    found = Peer(make_settings(engine="zmq"))
    yield found
    found.stop()
