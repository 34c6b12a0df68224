"""The lease of a run: its duration, and its renewal in one background thread while the work goes on.

`PositionStore` takes, renews and releases leases in MongoDB.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from aggregates.exceptions import LeaseLostError
from aggregates.run.position import SlotName

log = logging.getLogger(__name__)

LEASE_S = 20.0  # without a renewal, another process may take over after this


@dataclass(frozen=True)
class Lease:
    """A lease on one slot of a position document, valid as long as its token is the newest."""

    name: str
    slot: SlotName
    token: int
    holder: str

    @property
    def guard(self) -> dict[str, Any]:
        """Return a filter that matches only until another process takes over."""
        return {"_id": self.name, f"{self.slot}.token": self.token}


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
    """Renews held leases every third of their duration. Thread-safe; the thread ends when no lease is held.

    `renew(lease, lease_s)` returns False if the lease was taken over.
    """

    def __init__(self, renew: Callable[[Lease, float], bool], lease_s: float = LEASE_S) -> None:
        self._renew_in_store = renew
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
            if not self._renew_in_store(kept.lease, self._lease_s):
                kept.lost = True
        except PyMongoError as error:
            log.warning("lease not renewed, will try again aggregate=zagg.%s error=%s", kept.lease.name, error)
