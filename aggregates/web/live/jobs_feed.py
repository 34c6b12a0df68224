"""Feed the jobs page: router, workers, and the newest jobs with their progress."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from aggregates.web.json_encoding import to_json
from aggregates.web.live.feed import Notice, OpenDatabase, StreamMessage
from mapreduce.engine.engine_status import engine_summary, list_jobs

SHOWN = 60


class JobsFeed:
    """Watch the engine. All instances are equal. `jobs` messages hold the whole state."""

    poll_s = 1.0  # the router writes its state once a second

    def __init__(self, open_database: OpenDatabase) -> None:
        self._open_database = open_database

    def __hash__(self) -> int:
        return hash(JobsFeed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobsFeed)

    def concerns(self, notice: Notice) -> bool:
        """Return True for a refreshed aggregate, which has ended a job; jobs have no notices of their own."""
        return notice.get("$command") == "agg_complete"

    def stamp(self) -> Any:
        """Return a digest of the whole state."""
        return hashlib.blake2b(to_json(self.read()), digest_size=16).digest()

    def read(self) -> dict[str, Any]:
        """Return the state of the engine and its newest jobs."""
        database = self._open_database()
        engine = engine_summary(database)
        jobs = [
            {
                "job_id": job.job_id,
                "state": job.state,
                "running": job.running,
                "created": job.created,
                "ended": job.ended,
                "functions": job.functions,
                "outputs": job.outputs,
                "progress": job.progress,
                "error": job.error.get("message", "") if job.error else "",
                "traceback": job.traceback or "",
            }
            for job in list_jobs(database, SHOWN)
        ]
        return {
            "router": engine.router,
            "workers": [asdict(worker) for worker in engine.workers],
            "slots": engine.slots,
            "busy": engine.busy,
            "docs_per_s": engine.docs_per_s,
            "running": sum(engine.jobs.values()),
            "ended": dict(engine.ended),
            "jobs": jobs,
        }

    def whole(self, state: dict[str, Any]) -> StreamMessage:
        return StreamMessage("jobs", to_json(state))

    def change(self, before: dict[str, Any], after: dict[str, Any]) -> StreamMessage | None:
        return None if before == after else self.whole(after)
