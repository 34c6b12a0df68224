"""Receive the ingester's notices in a background thread that calls a callback: for the aggregator and live streams."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

from aggregates.services.loop_thread import LoopThread
from ingest.log_limit import LogLimit
from ingest.transport.client_keys import ClientKeys
from ingest.transport.notice import Subscription

log = logging.getLogger(__name__)
WAIT_S = 1.0  # between two checks of the address and of the stop flag
LOG_EVERY_S = 30.0
_log_limit = LogLimit(LOG_EVERY_S)


class NoticeListener:
    """Call `deliver` with each notice, from its own thread (a greenlet under gunicorn's gevent worker), until `stop`.

    `address` is called again and again: the ingester can start later, or restart on another port. Notices missed in the
    meantime do no harm, because both users also poll. A notice on which `deliver` fails is logged and skipped.
    """

    def __init__(
        self, address: Callable[[], str], deliver: Callable[[dict[str, Any]], None], keys: ClientKeys | None = None
    ) -> None:
        self._address = address
        self._deliver = deliver
        self._keys = keys
        self._loop = LoopThread("notice-listener", self._step)
        self._stopped = self._loop.stopping

    def start(self) -> None:
        """Start to listen, without waiting for the ingester."""
        self._loop.start()

    def request_stop(self) -> None:
        """Let the thread end, without waiting for it."""
        self._stopped.set()

    def stop(self) -> None:
        """Stop the thread, which takes about `WAIT_S`. May be called twice, and before `start`."""
        self._loop.stop(3 * WAIT_S)

    def _step(self) -> None:
        address = self._current_address()
        if address is None:
            self._stopped.wait(WAIT_S)
        else:
            self._listen(address)

    def _listen(self, address: str) -> None:
        log.debug("listening for notices address=%s", address)
        with closing(Subscription(address, self._keys)) as subscription:
            while not self._stopped.is_set() and self._current_address() == address:
                notice = subscription.receive(WAIT_S)
                while notice is not None and not self._stopped.is_set():
                    self._deliver_safely(notice)
                    notice = subscription.receive(0)

    def _deliver_safely(self, notice: dict[str, Any]) -> None:
        try:
            self._deliver(notice)
        except Exception as error:  # one notice does not hold up the others
            if _log_limit.allows(type(error).__name__):
                log.exception("notice skipped, handling it failed notice=%.200r", notice)

    def _current_address(self) -> str | None:
        try:
            return self._address()
        except Exception as error:  # noqa: BLE001 - the ingester has not recorded its address yet
            log.debug("notice address unknown error=%s", error)
            return None
