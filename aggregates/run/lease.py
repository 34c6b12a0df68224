"""The lease of a run: its duration, and its renewal in one background thread while the work is done.

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
from aggregates.run.position import LeaseKind

log = logging.getLogger(__name__)

LEASE_S = 20.0  # without a renewal, another process may take over after this


@dataclass(frozen=True)
class Lease:
    """A lease on one kind of work on a position, valid as long as its token is the newest."""

    name: str
    kind: LeaseKind
    token: int
    holder: str

    @property
    def guard(self) -> dict[str, Any]:
        """Return a filter that matches only until another process takes over."""
        return {"_id": self.name, f"{self.kind}.token": self.token}


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
    """Renew held leases every third of their duration. Thread-safe; the thread ends when no lease is held.

    `renew(lease, lease_s)` returns False if the lease was taken over.
    """

    def __init__(self, renew: Callable[[Lease, float], bool], lease_s: float = LEASE_S) -> None:
        self._renew_in_store = renew
        self._lease_s = lease_s
        self._held: set[HeldLease] = set()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[HeldLease]:
        """Renew `lease` inside the block; it is not released at the end."""
        held_lease = HeldLease(lease)
        with self._lock:
            self._held.add(held_lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield held_lease
        finally:
            with self._lock:
                self._held.discard(held_lease)
                if not self._held:
                    self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._wake.wait(self._lease_s / 3)
                if not self._held:
                    self._thread = None
                    return
                now = list(self._held)
            for held_lease in now:
                self._renew(held_lease)

    def _renew(self, held_lease: HeldLease) -> None:
        try:
            if not self._renew_in_store(held_lease.lease, self._lease_s):
                held_lease.lost = True
        except Exception as error:
            known = isinstance(error, PyMongoError)
            log.warning(
                "lease not renewed, will try again aggregate=zagg.%s error=%s",
                held_lease.lease.name, error, exc_info=None if known else error,
            )  # fmt: skip
