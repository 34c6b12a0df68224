"""A limit remembers every connection that it holds, and releases each of them again."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.transport.connection_hold import Connection, Window
from ingest.transport.hold_decision import RELEASED_BYTES, Progress, Reading
from ingest.transport.memory_limit import MemoryLimit

ADDRESS = "tcp://127.0.0.1:1"
ENOUGH = -RELEASED_BYTES - 1
MIB = 2**20


class Holder:
    """Connections whose windows are only remembered."""

    def __init__(self) -> None:
        self.received = {1: 0, 2: 0}
        self.windows = dict.fromkeys(self.received, Window.OPEN)
        self.refused = False

    def connections(self) -> list[Connection]:
        return [Connection(cookie, cookie, ADDRESS, size) for cookie, size in self.received.items()]

    def set_window(self, connection: Connection, window: Window, before: Window = Window.OPEN) -> None:
        assert self.windows[connection.cookie] is before
        self.windows[connection.cookie] = window

    def refuse_newcomers(self, *, refused: bool) -> None:
        self.refused = refused


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a limit with `holder`, whose looks are made by hand."""
    made: Any = MemoryLimit({ADDRESS: lambda: Progress(Reading.IDLE)})
    made.holder = made._holder = Holder()
    return made


def begin_turn(limit: Any) -> None:
    limit._look(0, turns=True)
    limit.holder.received = {1: 50 * MIB, 2: 50 * MIB}
    limit._look(0, turns=True)
    assert limit.holder.windows == {1: Window.NARROW, 2: Window.HELD}


def test_a_large_message_ends_the_turn_at_once(limit: Any) -> None:
    begin_turn(limit)
    limit.large_was_read()
    assert limit.holder.windows == {1: Window.HELD, 2: Window.HELD}
    assert limit.held_count == 2


def test_a_large_message_holds_nobody_whose_turn_has_ended_before(limit: Any) -> None:
    begin_turn(limit)
    limit._look(ENOUGH, turns=True)
    assert limit.holder.windows == {1: Window.OPEN, 2: Window.OPEN}
    limit.large_was_read()
    assert limit.holder.windows == {1: Window.OPEN, 2: Window.OPEN}
    assert limit.held_count == 0


def test_a_turn_that_a_large_message_has_ended_ends_in_release_all_the_same(limit: Any) -> None:
    begin_turn(limit)
    limit.large_was_read()
    limit._look(ENOUGH, turns=True)
    assert limit.holder.windows == {1: Window.OPEN, 2: Window.OPEN}
    assert limit.held_count == 0
