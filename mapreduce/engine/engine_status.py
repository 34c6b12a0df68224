"""Status of router, workers and jobs, read from MongoDB alone: for `/metrics`, the jobs page and health checks.

The router writes its status to `zmr.router` and its jobs to `zmr.job` about once a second, so these reads work while
the router is down. Stopping a job is left to `Engine.cancel(job_id)`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pymongo import DESCENDING
from pymongo.database import Database

from mapreduce.codec import CODEC
from mapreduce.job.source_text import shown
from mapreduce.job.spec import END_STATES, RUNNING_STATES
from mapreduce.router.job_store import COLLECTION, ROUTER_COLLECTION, ROUTER_ID
from mapreduce.scheduler.worker_health import WORKING

ROUTER_LOST_S = 15.0  # a router that has not written for this long counts as gone
JOBS_SHOWN = 1_000


@dataclass(frozen=True)
class WorkerStatus:
    """One worker, as of the router's last write."""

    name: str  # machine and process id
    slots: int  # steps it can run at the same time
    busy: int  # steps it is running
    state: str = WORKING  # or `backing off`, `quarantined`
    failures: int = 0  # in a row
    reason: str = ""  # of the last failure
    since: datetime.datetime | None = None  # time of the first failure; None = it works
    retry: datetime.datetime | None = None  # when it gets a step although others can do the work; None = it works

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> WorkerStatus:
        """Return the worker that `document` of the router's status describes; unknown fields are ignored."""
        return cls(**{item.name: document[item.name] for item in fields(cls) if item.name in document})


@dataclass(frozen=True)
class EngineStatus:
    """Status of router, workers and jobs. Counts of ended jobs and totals start at 0 with each router."""

    jobs: Mapping[str, int]  # running jobs by state; each running state has an entry
    ended: Mapping[str, int]  # jobs that ended since the router started, by state; each end state has an entry
    splits: int  # of running jobs
    splits_done: int  # of running jobs
    docs_per_s: float  # documents read per second by running jobs, averaged since each started
    docs_in: int  # documents read by jobs that ended since the router started
    keys_out: int  # keys written by the same jobs
    attempts_lost: int  # attempts of steps that the same jobs lost
    oldest_s: float | None  # age of the oldest running job; None = no job is running
    workers: tuple[WorkerStatus, ...] = ()  # empty if no router is alive
    router: str | None = None  # machine and process id of the live router; None = no router is alive
    router_quiet_s: float | None = None  # time since the router's last write; None = no router has ever written

    @property
    def slots(self) -> int:
        """Return the number of steps that all workers together can run at the same time."""
        return sum(worker.slots for worker in self.workers)

    def in_state(self, state: str) -> list[WorkerStatus]:
        """Return the workers that are `working`, `backing off` or `quarantined`."""
        return [worker for worker in self.workers if worker.state == state]

    @property
    def busy(self) -> int:
        """Return the number of steps that workers are running."""
        return sum(worker.busy for worker in self.workers)


@dataclass(frozen=True)
class JobListing:
    job_id: str
    kind: str  # "mapreduce" or "basic"
    state: str
    created: datetime.datetime
    ended: datetime.datetime | None
    functions: tuple[str, ...]  # `module:qualname`, or `text:name` for source text; each once
    outputs: tuple[str, ...]  # collections; `*` = the label
    progress: Mapping[str, Any] = field(default_factory=dict)  # see docs/mapreduce.md, at most a second old
    error: Mapping[str, Any] | None = None  # `{code, message, details}`
    traceback: str | None = None  # of task code, if that raised

    @property
    def running(self) -> bool:
        """Return True if the job can still be cancelled."""
        return self.state in RUNNING_STATES


def engine_summary(database: Database[Any]) -> EngineStatus:
    """Return the status of the engine whose records are in `database`. Blocks for two small indexed reads."""
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
        workers=tuple(map(WorkerStatus.from_document, found.get("workers", []))) if lives else (),
        router=found.get("name") if lives else None,
        router_quiet_s=quiet_s,
    )


def list_jobs(
    database: Database[Any], limit: int = 100, states: Iterable[str] | None = None, job_id: str | None = None
) -> list[JobListing]:
    """Return at most `limit` jobs (up to 1,000), newest first; only those in `states`, or only `job_id`."""
    condition: dict[str, Any] = {} if states is None else {"state": {"$in": list(states)}}
    if job_id is not None:
        condition["_id"] = job_id
    records = database.get_collection(COLLECTION, codec_options=CODEC)
    cursor = records.find(condition, {"plan": 0}).sort("created", DESCENDING).limit(max(1, min(limit, JOBS_SHOWN)))
    return [_listing(document) for document in cursor]


def _aged(database: Database[Any], name: str, condition: Mapping[str, Any], since: str) -> list[dict[str, Any]]:
    """Return documents with `age_s`, the time since field `since` by MongoDB's clock."""
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
