"""The freshness of an answer."""

from __future__ import annotations

from datetime import UTC, datetime

from aggregates.web.series.freshness import Freshness, from_position
from ingest.store.partition import Partition
from ingest.store.store import Watermark

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
NOW = Watermark(through=10, complete_through=LATE, store="s", epoch=1, partitions=(Partition("event.1", 1),))
POSITION = {"position": 10, "complete_through": EARLY, "store": "s", "epoch": 1, "aggdef": "a"}


def test_an_aggregate_at_the_watermark_is_as_complete_as_the_watermark() -> None:
    assert from_position(POSITION, NOW) == Freshness(10, LATE, "a")


def test_an_aggregate_that_lags_is_complete_up_to_its_last_run() -> None:
    assert from_position(POSITION | {"position": 9}, NOW) == Freshness(9, EARLY, "a")


def test_the_watermark_does_not_apply_to_positions_of_another_store() -> None:
    assert from_position(POSITION | {"store": "other"}, NOW) == Freshness(10, EARLY, "a")
    assert from_position(POSITION | {"epoch": 2}, NOW) == Freshness(10, EARLY, "a")
    assert from_position(POSITION, None) == Freshness(10, EARLY, "a")


def test_a_position_that_is_not_an_event_id_has_no_through() -> None:
    assert from_position(POSITION | {"position": "k"}, NOW) == Freshness(None, EARLY, "a")
