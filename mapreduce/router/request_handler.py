"""Handle client requests in the router: accept jobs, answer queries, and delay replies until a job has ended."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapreduce.codec import NestedTooDeepError, decode, encode
from mapreduce.exceptions import JobConflictError, MapReduceError, SpecError
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.function_registry import Registry
from mapreduce.job.request import PlainRequest, StatusRequest, SubmitRequest, parse
from mapreduce.job.spec import END_STATES, ERROR, UNKNOWN, JobSpec, JobStatus
from mapreduce.job.spec_check import checked_spec
from mapreduce.router import job_store
from mapreduce.router.pending_lookup import Envelope, PendingLookups
from mapreduce.scheduler.job_limits import JobLimits
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.scheduler import Scheduler
from mapreduce.scheduler.worker_health import HealthReport
from mapreduce.settings import EngineSettings
from mapreduce.step.reader import KeyRange
from mapreduce.task_error import described
from mapreduce.wire.message import versions

JOBS_LISTED = 100  # default limit of a request for jobs

log = logging.getLogger(__name__)

Reply = Callable[[Envelope, dict[str, Any]], None]


@dataclass(frozen=True)
class _Waiter:
    envelope: Envelope
    until_s: float | None  # None = until the job has ended


class RequestHandler:
    """Reply to every request exactly once, to a bad one with `{error: {code, ...}}`. Belongs to the router's thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        settings: EngineSettings,
        limits: JobLimits,
        recorder: job_store.JobStore,
        reply: Reply,
    ) -> None:
        self.loaded = False  # True once the jobs of an earlier router are loaded
        self.terminated = False
        self._scheduler = scheduler
        self._settings = settings
        self._limits = limits
        self._job_store = recorder
        self._send = reply
        self.lookups = PendingLookups(recorder, self._reply)
        self._registry = Registry(settings.allowed_modules, allow_source=settings.allow_source)
        self._waiters: dict[str, list[_Waiter]] = {}
        self._spec_bytes: dict[str, bytes] = {}

    def request(self, envelope: Envelope, document: dict[str, Any], now: float) -> None:
        """Handle one request; errors become the reply."""
        try:
            command = parse(document, allow_source=self._settings.allow_source)
            if isinstance(command, SubmitRequest):
                self._submit(envelope, command, now)
            elif isinstance(command, StatusRequest):
                self._status(envelope, command.job_id, now + command.wait_s if command.wait_s else None, now)
            else:
                self._plain(envelope, command, now)
        except MapReduceError as error:
            self._reply(envelope, {"error": error.to_document()})
        except (RecursionError, NestedTooDeepError):
            self._reply(envelope, {"error": SpecError("the request is nested too deep").to_document()})
        except Exception as error:
            log.exception("request failed command=%.100r", document.get("$command"))
            self._reply(envelope, {"error": MapReduceError(described(error)).to_document()})

    def _reply(self, envelope: Envelope | None, document: dict[str, Any]) -> None:
        """Reply, unless that is already done (no envelope)."""
        if envelope is not None:
            self._send(envelope, document)

    def load(self, found: dict[str, Any], now: float) -> JobState | JobStatus:
        """Return the job of a record. If the record cannot be read, end the job in error and return its status."""
        try:
            return load_job(found, self._limits, now, allow_source=self._settings.allow_source)
        except Exception as error:
            log.exception("job cannot be resumed job=%s", found["_id"])
            known = error if isinstance(error, MapReduceError) else MapReduceError(described(error))
            known = type(known)(f"the record of the job cannot be read: {known.message}")
            fields = {"state": "error", "error": known.to_document()}
            self._job_store.ask(job_store.end(found["_id"], fields, durable=True), insist=True)
            return JobStatus(str(found["_id"]), ERROR, known.to_document())

    def spec_bytes(self, job: JobState) -> bytes:
        """Return the job's description as it is sent to workers."""
        if job.job_id not in self._spec_bytes:
            self._spec_bytes[job.job_id] = encode(job.spec.to_document())
        return self._spec_bytes[job.job_id]

    def ended(self, job: JobState, status: JobStatus) -> None:
        """Reply to the clients that wait for a job whose end is recorded."""
        self._spec_bytes.pop(job.job_id, None)
        for waiter in self._waiters.pop(job.job_id, []):
            self._reply(waiter.envelope, status.to_document())

    def expire(self, now: float) -> None:
        """Reply to clients whose own waiting time, or that of their lookup in MongoDB, is over."""
        self.lookups.expire(now)
        for job_id, waiters in list(self._waiters.items()):
            due = [w for w in waiters if w.until_s is not None and w.until_s <= now]
            if not due:
                continue
            self._waiters[job_id] = [w for w in waiters if w not in due]
            for waiter in due:
                self.request(waiter.envelope, {"$command": "status", "job_id": job_id}, now)

    def next_check_s(self, now: float) -> float:
        """Return the seconds until `expire` has something to do."""
        ends = [w.until_s - now for waiters in self._waiters.values() for w in waiters if w.until_s is not None]
        return max(0.0, min([*ends, self.lookups.next_check_s(now)]))

    def _submit(self, envelope: Envelope, command: SubmitRequest, now: float) -> None:
        spec = command.spec
        job = self._scheduler.jobs.get(spec.job_id)
        if job is not None:
            self._check_same(job.spec.digest(), spec)
            self._accepted(envelope, job, command.wait, now)
            return
        names = (spec.func_name,) if isinstance(spec, CallSpec) else spec.function_names()
        for name in names:
            self._registry.check(name)
        spec = spec.with_code(self._registry.versions(names))
        new = JobState(spec, self._limits, now, durable=command.durable)
        self.lookups.ask(
            envelope,
            job_store.insert(job_record(new), durable=new.durable),
            lambda to, found: self._inserted(to, new, command.wait, found),
            now,
        )

    def _inserted(self, envelope: Envelope | None, job: JobState, wait: bool, found: Any) -> None:
        now = time.monotonic()
        if found is not None:
            self._repeat(envelope, job, wait, found, now)
            return
        self._scheduler.add(job)
        self._accepted(envelope, job, wait, now)

    def _repeat(self, envelope: Envelope | None, job: JobState, wait: bool, found: dict[str, Any], now: float) -> None:
        """Handle a job id that is already recorded: reply with the status of the same job, or with a conflict."""
        try:
            self._check_same(found["digest"], job.spec)
        except JobConflictError as error:
            self._reply(envelope, {"error": error.to_document()})
            return
        known = self._scheduler.jobs.get(job.job_id)
        if known is not None:
            self._accepted(envelope, known, wait, now)
        elif found["state"] in END_STATES:
            self._reply(envelope, status_of(found).to_document())
        else:
            self._look_up(envelope, job.job_id, now, lambda to, again: self._accepted(to, again, wait, now))

    def _check_same(self, digest: str, spec: JobSpec | CallSpec) -> None:
        if digest != spec.digest():
            raise JobConflictError(f"job {spec.job_id} was submitted before with other contents: choose another job_id")

    def _accepted(self, envelope: Envelope | None, job: JobState, wait: bool, now: float) -> None:
        if wait:
            self._wait(envelope, job.job_id, None)
        else:
            self._reply(envelope, job.status(now).to_document())

    def _wait(self, envelope: Envelope | None, job_id: str, until_s: float | None) -> None:
        if envelope is not None:
            self._waiters.setdefault(job_id, []).append(_Waiter(envelope, until_s))

    def _status(self, envelope: Envelope, job_id: str, until_s: float | None, now: float) -> None:
        job = self._scheduler.jobs.get(job_id)
        if job is None:
            self._look_up(envelope, job_id, now)
        elif until_s is None:
            self._reply(envelope, job.status(now).to_document())
        else:
            self._wait(envelope, job_id, until_s)

    def _look_up(
        self,
        envelope: Envelope | None,
        job_id: str,
        now: float,
        known: Callable[[Envelope | None, JobState], None] | None = None,
    ) -> None:
        """Reply from the record of a job that is not running here; `known` replies instead if it runs by then."""

        def answer(to: Envelope | None, found: Any) -> None:
            job = self._scheduler.jobs.get(job_id) or self._resume(found)
            if isinstance(job, JobStatus):
                self._reply(to, job.to_document())
            elif job is None:
                status = status_of(found) if found else JobStatus(job_id, UNKNOWN)
                self._reply(to, status.to_document())
            elif known is not None:
                known(to, job)
            else:
                self._reply(to, job.status(time.monotonic()).to_document())

        self.lookups.ask(envelope, job_store.find(job_id), answer, now)

    def _resume(self, found: dict[str, Any] | None) -> JobState | JobStatus | None:
        """Resume a job that is not running although its record says so; otherwise it would never end.

        This happens if a crash of MongoDB loses the record's last change, or if the reply to its insertion is lost.
        """
        if not found or found.get("state") in END_STATES:
            return None
        state = found.get("state")
        log.warning("job resumed: recorded as running, but not scheduled job=%s state=%s", found["_id"], state)
        job = self.load(found, time.monotonic())
        if isinstance(job, JobState):
            self._scheduler.add(job)
        return job

    def _plain(self, envelope: Envelope, command: PlainRequest, now: float) -> None:
        name, document = command.command, command.document
        if name == "echo":
            self._reply(envelope, {"value": document.get("value")})
        elif name == "terminate":
            self._reply(envelope, {"terminated": True})
            self.terminated = True
        elif name == "config":
            self._reply(envelope, self._config(now))
        elif name == "cancel":
            self._cancel(envelope, document["job_id"], now)
        else:
            self._jobs(envelope, document.get("limit", JOBS_LISTED), now)

    def _cancel(self, envelope: Envelope, job_id: str, now: float) -> None:
        def cancel(to: Envelope | None, job: JobState) -> None:
            self._scheduler.cancel(job.job_id, time.monotonic())
            self._wait(to, job.job_id, None)

        job = self._scheduler.jobs.get(job_id)
        if job is None:
            self._look_up(envelope, job_id, now, cancel)
        else:
            cancel(envelope, job)

    def _jobs(self, envelope: Envelope, limit: int, now: float) -> None:
        def answer(to: Envelope | None, found: Any) -> None:
            now = time.monotonic()
            running = self._scheduler.jobs
            shown = []
            for item in found:
                live = running.get(item["_id"])
                status = live.status(now) if live is not None else status_of(item)
                shown.append({**status.to_document(), "kind": item.get("kind"), "created": item.get("created")})
            self._reply(to, {"jobs": shown})

        self.lookups.ask(envelope, job_store.recent(limit), answer, now)

    def _config(self, now: float) -> dict[str, Any]:
        settings = self._settings
        return {
            "config": {
                "engine": settings.engine,
                "mongo_database": settings.mongo_database,
                "allowed_modules": list(settings.allowed_modules),
                "allow_source": settings.allow_source,
                "reduce_count": settings.reduce_count,
                "map_job_size": settings.map_job_size,
                "outstanding_maps": settings.outstanding_maps,
                "outstanding_reduces": settings.outstanding_reduces,
                "split_limit_s": settings.split_limit_s,
                "versions": versions(),
            },
            "workers": [
                {
                    "worker_id": worker.worker_id,
                    "name": worker.name,
                    "slots": worker.slots,
                    "idle": worker.idle,
                    "spare": worker.spare,
                    "running": len(worker.running),
                    "seen_s_ago": round(now - worker.seen_s, 3),
                    **health_document(self._scheduler.health.report(worker.worker_id), now),
                }
                for worker in self._scheduler.workers.values()
            ],
        }


def health_document(report: HealthReport, now: float) -> dict[str, Any]:
    """Return the health of a worker in a reply: seconds since its first failure and until the next attempt."""
    return {
        "state": report.state,
        "failures": report.failures,
        "reason": report.reason,
        "failing_s": None if report.since_s is None else round(now - report.since_s, 1),
        "retry_s": None if report.retry_s is None else round(max(0.0, report.retry_s - now), 1),
    }


def job_record(job: JobState) -> dict[str, Any]:
    return {
        "_id": job.job_id,
        "kind": "basic" if isinstance(job.spec, CallSpec) else "mapreduce",
        "spec": job.spec.to_document(),
        "digest": job.spec.digest(),
        "state": job.state,
        "error": None,
        "traceback": None,
        "progress": {},
        "result": None,
        "created": datetime.datetime.now(datetime.UTC),
    }


def status_of(found: dict[str, Any]) -> JobStatus:
    """Return the status in a job record."""
    return JobStatus.from_document({"job_id": str(found["_id"]), "status": {**found, "state": str(found.get("state"))}})


def load_job(found: dict[str, Any], limits: JobLimits, now: float, *, allow_source: bool = False) -> JobState:
    """Return the job of a record, with its recorded plan. A malformed record raises `SpecError` or any other error."""
    if not {"kind", "spec", "state"} <= set(found):
        raise SpecError("kind, spec or state is missing")
    spec: JobSpec | CallSpec
    if found["kind"] == "basic":
        spec = CallSpec.from_document(found["spec"]).checked()
    else:
        spec = checked_spec(JobSpec.from_document(found["spec"]), allow_source=allow_source)
    if spec.job_id != found["_id"]:
        raise SpecError(f"it describes job {spec.job_id}")
    job = JobState(spec, limits, now)
    if found.get("plan") is not None:
        job.planned(KeyRange.from_document(item) for item in decode(found["plan"])["splits"])
    return job
