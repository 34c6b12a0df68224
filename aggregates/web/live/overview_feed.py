"""Feed the overview page with event rates, the latest events, and the lag of the aggregates."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from aggregates.web import overview, stored_events
from aggregates.web.json_encoding import to_json
from aggregates.web.live.feed import Notice, OpenDatabase, StreamMessage

SHOWN_EVENTS = 20
READ_EVENTS = 200  # newest events from which the shown ones are chosen
OWN_TYPE = "metric"  # type of Zarkov's own measurements, which arrive all the time
MAX_OWN_EVENTS = 4  # so that other events stay visible
RATES_S = 60  # seconds of rates kept
MAX_TYPED_EVENTS = 50_000  # more new events than this since the last read are counted without their types


def choose_events(latest: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return up to `SHOWN_EVENTS` of the newest events, newest first, with only a few measurements among others."""
    others = [event for event in latest if event.get("type") != OWN_TYPE][:SHOWN_EVENTS]
    max_own = SHOWN_EVENTS if not others else MAX_OWN_EVENTS
    own = [event for event in latest if event.get("type") == OWN_TYPE][:max_own]
    return sorted(own + others, key=lambda event: -int(event["_id"]))[:SHOWN_EVENTS]


class OverviewFeed:
    """Watch the state of the system. All instances are equal. `pulse` messages hold all of it, which is small."""

    def __init__(self, open_database: OpenDatabase) -> None:
        self._open_database = open_database
        self._counted_through: int | None = None
        self._rates: deque[tuple[int, dict[str, int]]] = deque()  # (second, events by type), oldest first

    def __hash__(self) -> int:
        return hash(OverviewFeed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OverviewFeed)

    def concerns(self, notice: Notice) -> bool:
        """Return True for every commit of events and every refreshed aggregate."""
        return notice.get("$command") in {"committed", "agg_complete"}

    def stamp(self) -> Any:
        """Return None, so that the channel reads again after `reread_s`: rates fall to 0 without any commit."""
        return None

    def read(self) -> dict[str, Any]:
        """Return rates by type and second, the latest events, and the state of aggregates, quarantine and jobs."""
        database = self._open_database()
        latest = stored_events.latest(database, READ_EVENTS)
        self._count(int(latest[0]["_id"]) if latest else 0)
        return {
            "now": int(time.time()),
            "window_s": RATES_S,
            "rates": [[second, dict(counts)] for second, counts in self._rates],
            "latest": choose_events(latest),
            **overview.read(database),
        }

    def whole(self, state: dict[str, Any]) -> StreamMessage:
        return StreamMessage("pulse", to_json(state))

    def change(self, before: dict[str, Any], after: dict[str, Any]) -> StreamMessage | None:
        """Return the whole state if anything but the clock differs."""
        if {**before, "now": 0} == {**after, "now": 0}:
            return None
        return self.whole(after)

    def _backfill_rates(self, through: int, second: int) -> None:
        """Fill in the minute before the first read, by the timestamps of the events."""
        since = datetime.fromtimestamp(second - RATES_S + 1, UTC)
        found = stored_events.count_by_second(self._open_database(), max(0, through - MAX_TYPED_EVENTS), since)
        self._rates.extend((when, counts) for when, counts in sorted(found.items()) if when <= second)

    def _count(self, through: int) -> None:
        """Add the events that arrived since the last read to the second of this read."""
        second = int(time.time())
        if self._counted_through is None:
            self._backfill_rates(through, second)
        elif through > self._counted_through:
            if through - self._counted_through > MAX_TYPED_EVENTS:
                counts = {"(many)": through - self._counted_through}
            else:
                counts = stored_events.count_by_type(self._open_database(), self._counted_through, through)
            if not self._rates or self._rates[-1][0] != second:
                self._rates.append((second, {}))
            bucket = self._rates[-1][1]
            for name, count in counts.items():
                bucket[name] = bucket.get(name, 0) + count
        self._counted_through = through
        while self._rates and self._rates[0][0] <= second - RATES_S:
            self._rates.popleft()
