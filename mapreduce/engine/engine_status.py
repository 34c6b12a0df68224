"""What goes on in the engine, read from MongoDB alone: for `/metrics`, the jobs page and health checks.

The router writes how it stands into `zmr.router` and its jobs into `zmr.job` about once a second; reading asks nothing
of the router, and works while it is away. To stop a job: `Engine.cancel(job_id)`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo import DESCENDING
from pymongo.database import Database

from mapreduce.codec import CODEC
from mapreduce.job.source_text import shown
from mapreduce.job.spec import END_STATES, RUNNING_STATES
from mapreduce.router.job_store import COLLECTION, ROUTER_COLLECTION, ROUTER_ID

ROUTER_LOST_S = 15.0  # a router that has not written for this long is taken for gone
JOBS_SHOWN = 1_000


@dataclass(frozen=True)
class WorkerStatus:
    """One worker host, as the router saw it when it last wrote."""

    name: str  # host and process id
    slots: int  # steps it can do at once
    busy: int  # steps it is doing


@dataclass(frozen=True)
class EngineStatus:
    """How router, workers and jobs stand. Counts of ended jobs and totals begin at 0 when a router starts."""

    jobs: Mapping[str, int]  # jobs that have not ended, by state; each running state has an entry
    ended: Mapping[str, int]  # jobs that ended since the router started, by state; each end state has an entry
    splits: int  # of jobs that have not ended
    splits_done: int
    docs_per_s: float  # read by jobs that have not ended, since each began
    docs_in: int  # documents read by jobs that ended since the router started
    keys_out: int  # keys written by these
    attempts_lost: int  # attempts of steps lost by these
    oldest_s: float | None  # age of the oldest job that has not ended; None = there is none
    workers: tuple[WorkerStatus, ...] = ()  # empty when no router lives
    router: str | None = None  # host and process id of the router that lives; None = there is none
    router_quiet_s: float | None = None  # since it wrote; None = there never was one

    @property
    def slots(self) -> int:
        """Steps that all workers together can do at once."""
        return sum(worker.slots for worker in self.workers)

    @property
    def busy(self) -> int:
        """Steps that are being done."""
        return sum(worker.busy for worker in self.workers)


@dataclass(frozen=True)
class JobListing:
    """One job for a list of jobs."""

    job_id: str
    kind: str  # "mapreduce" or "basic"
    state: str
    created: datetime.datetime
    ended: datetime.datetime | None
    functions: tuple[str, ...]  # `module:qualname`, or `text:name` for source text; each once
    outputs: tuple[str, ...]  # collections; a star stands for labels
    progress: Mapping[str, Any] = field(default_factory=dict)  # see docs/mapreduce.md, at most a second old
    error: Mapping[str, Any] | None = None  # `{code, message, details}`
    traceback: str | None = None  # of the task's own code

    @property
    def running(self) -> bool:
        """Whether it can still be cancelled."""
        return self.state in RUNNING_STATES


def engine_summary(database: Database[Any]) -> EngineStatus:
    """How the engine stands that keeps its records in `database`. Blocks on MongoDB: two small indexed reads."""
    database = database.with_options(codec_options=CODEC)
    router = _aged(database, ROUTER_COLLECTION, {"_id": ROUTER_ID}, "seen")
    running = _aged(database, COLLECTION, {"state": {"$in": list(RUNNING_STATES)}}, "created")
    found = router[0] if router else {}
    quiet_s = found.get("age_s")
    lives = quiet_s is not None and quiet_s < ROUTER_LOST_S
    totals = found.get("totals", {})
    progress = [job.get("progress") or {} for job in running]
    return EngineStatus(
        jobs={state: sum(job["state"] == state for job in running) for state in RUNNING_STATES},
        ended={state: int(totals.get(state, 0)) for state in END_STATES},
        splits=sum(item.get("splits", 0) for item in progress),
        splits_done=sum(item.get("splits_done", 0) for item in progress),
        docs_per_s=float(sum(item.get("docs_per_s", 0.0) for item in progress)),
        docs_in=int(totals.get("docs_in", 0)),
        keys_out=int(totals.get("keys_out", 0)),
        attempts_lost=int(totals.get("attempts_lost", 0)),
        oldest_s=max((job["age_s"] for job in running), default=None),
        workers=tuple(WorkerStatus(**worker) for worker in found.get("workers", [])) if lives else (),
        router=found.get("name") if lives else None,
        router_quiet_s=quiet_s,
    )


def list_jobs(
    database: Database[Any], limit: int = 100, states: Iterable[str] | None = None, job_id: str | None = None
) -> list[JobListing]:
    """The newest jobs, newest first, at most `limit` (and 1,000); only those in `states`, or the one `job_id`."""
    condition: dict[str, Any] = {} if states is None else {"state": {"$in": list(states)}}
    if job_id is not None:
        condition["_id"] = job_id
    records = database.get_collection(COLLECTION, codec_options=CODEC)
    cursor = records.find(condition, {"plan": 0}).sort("created", DESCENDING).limit(max(1, min(limit, JOBS_SHOWN)))
    return [_listing(document) for document in cursor]


def _aged(database: Database[Any], name: str, condition: Mapping[str, Any], since: str) -> list[dict[str, Any]]:
    """Documents with their age in seconds by MongoDB's clock, as `age_s`."""
    age = {"$divide": [{"$subtract": ["$$NOW", f"${since}"]}, 1000]}
    fields = {"spec": 0, "plan": 0, "result": 0, "traceback": 0}
    stages = [{"$match": dict(condition)}, {"$project": fields}, {"$addFields": {"age_s": age}}]
    return list(database[name].aggregate(stages))


def _listing(document: Mapping[str, Any]) -> JobListing:
    spec = document.get("spec") or {}
    names = [spec.get("func_name")] + [source["map_name"] for source in spec.get("sources", [])]
    names += [spec.get("reduce_name"), spec.get("finalize_name")]
    return JobListing(
        job_id=str(document["_id"]),
        kind=str(document.get("kind")),
        state=document["state"],
        created=document["created"],
        ended=document.get("ended"),
        functions=tuple(dict.fromkeys(shown(name) for name in names if name)),
        outputs=tuple(output["collection"] for output in spec.get("outputs", [])),
        progress=document.get("progress") or {},
        error=document.get("error"),
        traceback=document.get("traceback"),
    )
