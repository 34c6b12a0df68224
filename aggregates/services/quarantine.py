"""Replay quarantined input, for the admin and the REST API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.load.quarantine_replay import replay_all
from ingest.store import quarantine
from ingest.store.quarantine import Selection, key_text
from ingest.turn import sleeping_turn

LIMIT_S = 20.0  # time limit of one request; the next one replays the rest
MOST = 100_000  # most entries in quarantine
SHOWN = 20
TIMEOUT_S = 5.0


@dataclass
class ReplayCounts:
    """The counts of one replay."""

    accepted: int = 0  # documents, journalled by the ingester
    refused: int = 0  # documents, still not valid events; they stay in quarantine
    left: int = 0  # entries, not tried within the time limit
    examples: list[tuple[str, str]] = field(default_factory=list)  # key and reason of the first refused entries

    def sentence(self) -> str:
        """Return one line for a person."""
        parts = [f"{self.accepted:,} replayed"]
        parts += [f"{self.refused:,} still refused"] if self.refused else []
        parts += [f"{self.left:,} not tried yet: replay again"] if self.left else []
        return ", ".join(parts)


def replay_entries(
    database: Database[dict[str, Any]],
    what: Selection | Sequence[Mapping[str, Any]],
    *,
    by: str,
    mended: Mapping[str, Any] | None = None,
) -> ReplayCounts:
    """Send quarantined entries, given by a selection or by keys, through the ingester's acknowledged socket.

    A selection includes replayed entries only if it says so. Replaying twice stores nothing twice. Block for about
    `LIMIT_S` at most, and let other requests run now and then. Raise `DeliveryError` if no ingester accepts them, and
    what looking up its address raises.
    """
    if isinstance(what, Selection) and what.replayed is None:
        what = replace(what, replayed=False)
    counts = ReplayCounts(left=quarantine.count_selected(database, what) if isinstance(what, Selection) else 0)
    deadline = time.monotonic() + LIMIT_S
    address = settings.ZARKOV.connect_address("ack_bind_address")
    with AcknowledgedClient(address, timeout_s=TIMEOUT_S, attempts=2, keys=settings.ZARKOV.client_keys()) as client:
        entries = quarantine.selected(database, what, MOST)
        for done in replay_all(database, client, entries, mended=mended, by=by, turn=sleeping_turn()):
            counts.left = max(0, counts.left - 1)
            counts.accepted += done.accepted_count
            counts.refused += done.refused_count
            if not done.accepted and len(counts.examples) < SHOWN:
                counts.examples.append((key_text(done.key), done.message))
            if time.monotonic() > deadline:
                break
        else:
            counts.left = 0
    return counts
