"""Let other greenlets run while one reads a long message, and never lose what that one has taken from its socket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import gevent

from ingest.turn import PAUSE_S, Turn


@contextlib.contextmanager
def loop_turn(meanwhile: Callable[[], object] = lambda: None) -> Iterator[Turn]:
    """Yield the `Turn` for a block that reads messages and passes them on to the journal.

    `meanwhile` is called at the end of each pause: what this greenlet itself can do between two pieces of the message.
    A kill of the greenlet, which can only arrive in a pause, takes effect at the end of the block: without that, a stop
    of the ingester would lose the messages.
    """
    kills: list[gevent.GreenletExit] = []

    def pause() -> None:
        if kills:
            return  # whoever kills the greenlet waits for it
        try:
            gevent.sleep(PAUSE_S)
            meanwhile()
        except gevent.GreenletExit as kill:
            kills.append(kill)

    yield Turn(pause)
    if kills:
        raise kills[0]
