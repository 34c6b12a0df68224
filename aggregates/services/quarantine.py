"""Replaying refused input: what the admin and the REST API do with quarantine."""

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

LIMIT_S = 20.0  # a request of a person ends after this; the rest is replayed by the next one
MOST = 100_000  # what quarantine holds at most
SHOWN = 20
TIMEOUT_S = 5.0


@dataclass
class ReplayOutcome:
    """What became of a replay."""

    accepted: int = 0  # on the ingester's disk
    refused: int = 0  # still no events: they stay as they are
    left: int = 0  # not tried, because time was up
    examples: list[tuple[str, str]] = field(default_factory=list)  # key and reason of the first refused ones

    def sentence(self) -> str:
        """For a person."""
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
) -> ReplayOutcome:
    """Send the entries of a selection, or those with the keys, through the ingester's acknowledged socket.

    A selection means those that were not replayed yet, unless it asks for the others. Replaying twice stores nothing
    twice. Raises `DeliveryError` when no ingester takes them, and what looking up its address raises.
    """
    if isinstance(what, Selection) and what.replayed is None:
        what = replace(what, replayed=False)
    outcome = ReplayOutcome(left=quarantine.number_of(database, what) if isinstance(what, Selection) else 0)
    deadline = time.monotonic() + LIMIT_S
    address = settings.ZARKOV.connect_address("ack_bind_address")
    with AcknowledgedClient(address, timeout_s=TIMEOUT_S, attempts=2, keys=settings.ZARKOV.client_keys()) as client:
        entries = quarantine.selected(database, what, MOST)
        for done in replay_all(database, client, entries, mended=mended, by=by):
            outcome.left = max(0, outcome.left - 1)
            if done.accepted:
                outcome.accepted += 1
            else:
                outcome.refused += 1
                if len(outcome.examples) < SHOWN:
                    outcome.examples.append((key_text(done.key), done.message))
            if time.monotonic() > deadline:
                break
        else:
            outcome.left = 0
    return outcome
