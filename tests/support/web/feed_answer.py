"""Read what a feed of a chart shows, in the form of the API."""

from __future__ import annotations

import json
from typing import Any

from aggregates.web.live.feed import SeriesFeed


def answer_of(feed: SeriesFeed) -> dict[str, Any]:
    """Return the whole answer that a new viewer gets."""
    answer: dict[str, Any] = json.loads(feed.whole(feed.read()).data)
    return answer
