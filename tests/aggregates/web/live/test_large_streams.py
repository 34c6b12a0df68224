"""Open streams of large charts take bounded memory, on a real gunicorn."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tests.support.web.server import Server

pytestmark = pytest.mark.early
COUNT = 240_000
MOST_BYTES = 500 * 2**20  # of a web process


def test_streams_of_large_charts_take_bounded_memory_and_leave_room_for_small_ones(
    mongo_uri: str, tmp_path: Path
) -> None:
    """Each keeps 13 MB, of 48 MiB."""
    with Server(mongo_uri, tmp_path, WEB_CONCURRENCY="1") as server, ExitStack() as held:
        begin = datetime(2024, 1, 1, tzinfo=UTC)
        server.database["zagg.many"].insert_many(
            {"_id": f"x/{begin + timedelta(minutes=i):%Y-%m-%dT%H:%M}", "value": {"hits": i, "size": i / 2}}
            for i in range(COUNT)
        )
        server.database["zagg.few"].insert_one({"_id": "x/2024-01-01", "value": 1})
        (worker,) = psutil.Process(server.processes["web"].pid).children()
        paths = [f"api/v1/live/many/?limit={10 + number}" for number in range(6)]
        kinds = [held.enter_context(server.stream(path)).next()[0] for path in paths]
        assert kinds == ["series"] * 3 + ["problem"] * 3
        assert held.enter_context(server.stream("api/v1/live/few/")).next()[0] == "series"
        assert held.enter_context(server.stream(paths[0])).next()[0] == "series"  # it is open already
        assert server.request("api/v1/series/many/")[0] == 200
        assert worker.memory_info().rss < MOST_BYTES
