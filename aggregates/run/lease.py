"""Renew the leases that this process holds, in one background thread, while their work goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import PyMongoError

from aggregates.exceptions import LeaseLostError
from aggregates.run.position_store import LEASE_S, Lease, PositionStore

log = logging.getLogger(__name__)


class HeldLease:
    """A lease that is being renewed."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = False

    def check(self) -> None:
        """Raise `LeaseLostError` if another process has taken over."""
        if self.lost:
            raise LeaseLostError(f"zagg.{self.lease.name}: the lease was taken over by another process")


class LeaseRenewer:
    """Renews held leases every third of their duration. Thread-safe; the thread ends when no lease is held."""

    def __init__(self, position_store: PositionStore, lease_s: float = LEASE_S) -> None:
        self._position_store = position_store
        self._lease_s = lease_s
        self._kept: set[HeldLease] = set()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, lease: Lease) -> Iterator[HeldLease]:
        """Renew `lease` inside the block; it is not released at the end."""
        kept = HeldLease(lease)
        with self._lock:
            self._kept.add(kept)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield kept
        finally:
            with self._lock:
                self._kept.discard(kept)
                if not self._kept:
                    self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._wake.wait(self._lease_s / 3)
                if not self._kept:
                    self._thread = None
                    return
                now = list(self._kept)
            for kept in now:
                self._renew(kept)

    def _renew(self, kept: HeldLease) -> None:
        try:
            if not self._position_store.renew(kept.lease, self._lease_s):
                kept.lost = True
        except PyMongoError as error:
            log.warning("lease not renewed, will try again aggregate=zagg.%s error=%s", kept.lease.name, error)
