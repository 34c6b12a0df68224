"""How current an answer is said to be."""

from __future__ import annotations

from datetime import UTC, datetime

from aggregates.web.series.freshness import Freshness, from_position
from ingest.store.partition import Partition
from ingest.store.store import Watermark

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
NOW = Watermark(through=10, complete_through=LATE, store="s", epoch=1, partitions=(Partition("event.1", 1),))
POSITION = {"position": 10, "complete_through": EARLY, "store": "s", "epoch": 1, "aggdef": "a"}


def test_an_idle_aggregate_with_everything_in_is_complete_up_to_now() -> None:
    assert from_position(POSITION, NOW) == Freshness(10, LATE, "a")


def test_one_that_is_behind_is_complete_up_to_its_last_run() -> None:
    assert from_position(POSITION | {"position": 9}, NOW) == Freshness(9, EARLY, "a")


def test_positions_of_another_store_are_not_trusted_to_be_complete() -> None:
    assert from_position(POSITION | {"store": "other"}, NOW) == Freshness(10, EARLY, "a")
    assert from_position(POSITION | {"epoch": 2}, NOW) == Freshness(10, EARLY, "a")
    assert from_position(POSITION, None) == Freshness(10, EARLY, "a")


def test_keys_that_are_no_ids_say_nothing_of_events() -> None:
    assert from_position(POSITION | {"position": "k"}, NOW) == Freshness(None, EARLY, "a")
