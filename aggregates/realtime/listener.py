"""Receive the ingester's notices that events became readable, in a background thread that calls a callback."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from ingest.transport.client_keys import ClientKeys
from ingest.transport.notice import COMMITTED, Subscription

log = logging.getLogger(__name__)
LOOK_S = 1.0  # between two checks of the address and of the stop flag


class CommitListener:
    """Receives `committed` notices from an address that can change or be unknown yet."""

    def __init__(
        self,
        address: Callable[[], str],
        heard: Callable[[int], None],
        keys: ClientKeys | None = None,
    ) -> None:
        self._address = address
        self._keys = keys
        self._heard = heard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Start listening; does not wait for the ingester."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, usually within `LOOK_S`. May be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=3 * LOOK_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            address = self._current()
            if address is None:
                self._stop.wait(LOOK_S)
            else:
                self._listen(address)

    def _listen(self, address: str) -> None:
        log.debug("listening for notices address=%s", address)
        with closing(Subscription(address, self._keys)) as subscription:
            while not self._stop.is_set() and self._current() == address:
                notice = subscription.receive(LOOK_S)
                while notice is not None:
                    if notice.get("$command") == COMMITTED and isinstance(notice.get("through"), int):
                        self._heard(notice["through"])
                    notice = subscription.receive(0)

    def _current(self) -> str | None:
        """Return the current address; None if no ingester has recorded one."""
        try:
            return self._address()
        except Exception as error:
            if getattr(error, "code", None) is None:
                raise
            return None
