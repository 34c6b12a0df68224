"""Define the orders that the scheduler gives the router."""

from __future__ import annotations

from dataclasses import dataclass

from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.step import Step


@dataclass(frozen=True)
class AssignStep:
    """Order: send a step to a worker."""

    worker_id: str
    job: JobState
    step: Step
    attempt_id: str
    elsewhere: bool  # see `Placement.has_another_host`


@dataclass(frozen=True)
class AbortStep:
    """Order: abort an attempt whose result is no longer wanted."""

    worker_id: str
    attempt_id: str


@dataclass(frozen=True)
class WorkerGone:
    """Notice: a worker left or is lost, and why."""

    worker_id: str
    name: str
    why: str


@dataclass(frozen=True)
class JobEnded:
    """Order: record the end of a job and reply to the clients that wait for it."""

    job: JobState


Order = AssignStep | AbortStep | WorkerGone | JobEnded
