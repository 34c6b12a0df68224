"""Engine that runs jobs in the calling thread: for tests, for the shell, and as the simplest reference."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from mapreduce.codec import PLAIN
from mapreduce.engine.interface import Engine
from mapreduce.exceptions import JobConflictError, MapReduceError, StoreUnavailableError
from mapreduce.job.basic_job import CallSpec, run_call
from mapreduce.job.function_registry import Registry
from mapreduce.job.spec import COMPLETE, ERROR, UNKNOWN, JobSpec, JobStatus
from mapreduce.job.spec_check import checked_spec
from mapreduce.settings import EngineSettings
from mapreduce.step.map import MapCounts
from mapreduce.step.spill import MapOutput
from mapreduce.step.step_runner import StepLimits, StepRunner, runs_by_label
from mapreduce.store_error import as_engine_error
from mapreduce.worker.locked_folder import LockedFolder

_KEPT = 1_000  # job statuses; the oldest are dropped


class InlineEngine(Engine):
    """Run each job to its end within `submit`. Keep statuses in this object only; nothing is recorded in MongoDB."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._registry = Registry(settings.allowed_modules, allow_source=settings.allow_source)
        self._jobs: OrderedDict[str, tuple[str, JobStatus]] = OrderedDict()
        self._lock = threading.RLock()
        self._client: MongoClient[dict[str, Any]] | None = None

    def submit(self, spec: JobSpec, *, durable: bool = True) -> str:
        spec = checked_spec(spec, allow_source=self._settings.allow_source)
        with self._lock:
            if self._known(spec.job_id, spec.digest()):
                return spec.job_id
            for name in spec.function_names():
                self._registry.check(name)
            self._registry.check_code(spec.code)
            self._keep(spec.digest(), self._run(spec))
        return spec.job_id

    def _start_call(self, call: CallSpec) -> None:
        with self._lock:
            if self._known(call.job_id, call.digest()):
                return
            self._registry.check(call.func_name)
            try:
                result = run_call(call, self._registry)
                status = JobStatus(call.job_id, COMPLETE, result=result)
            except MapReduceError as error:
                status = _failed(call.job_id, error, {})
            self._keep(call.digest(), status)

    def status(self, job_id: str) -> JobStatus:
        with self._lock:
            return self._jobs[job_id][1] if job_id in self._jobs else JobStatus(job_id, UNKNOWN)

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobStatus:
        return self.status(job_id)

    def cancel(self, job_id: str) -> JobStatus:
        return self.status(job_id)

    def jobs(self) -> list[JobStatus]:
        with self._lock:
            return [status for _, status in reversed(self._jobs.values())]

    def ping(self, timeout_s: float = 1.0) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _known(self, job_id: str, digest: str) -> bool:
        if job_id not in self._jobs:
            return False
        if self._jobs[job_id][0] != digest:
            raise JobConflictError(f"job {job_id} was submitted before with other contents: choose another job_id")
        return True

    def _keep(self, digest: str, status: JobStatus) -> None:
        self._jobs[status.job_id] = (digest, status)
        while len(self._jobs) > _KEPT:
            self._jobs.popitem(last=False)

    def _run(self, spec: JobSpec) -> JobStatus:
        progress: dict[str, Any] = {}
        claim: LockedFolder | None = None
        try:
            claim = LockedFolder(self._settings.job_root, "inline-", "zmr.job_root")
            self._perform(spec, claim.path, progress)
        except MapReduceError as error:
            return _failed(spec.job_id, error, progress)
        except Exception as error:
            known = as_engine_error(error)
            if known is None:
                raise
            if isinstance(known, StoreUnavailableError):
                self.close()  # the server may restart at another address
            return _failed(spec.job_id, known, progress)
        finally:
            if claim is not None:
                claim.release()
        return JobStatus(spec.job_id, COMPLETE, progress=progress)

    def _perform(self, spec: JobSpec, scratch: Path, progress: dict[str, Any]) -> None:
        limits = StepLimits(
            self._settings.map_job_size,
            self._settings.spill_bytes,
            self._settings.compress,
            scratch,
            read_limit_s=self._settings.split_limit_s,
        )
        work = StepRunner(spec, self._connect(), self._registry, limits)
        splits = work.plan()
        progress.update(splits=len(splits), splits_done=0, docs_in=0, keys_out=0, skipped_count=0, skipped_ids=[])
        partitions = min(spec.reduce_count or self._settings.reduce_count, max(len(splits), 1))
        total = MapCounts()
        outputs: list[MapOutput] = []
        for span in splits:
            output, counts = work.map(span, partitions)
            outputs.append(output)
            progress["splits_done"] += 1
            total.add(counts)
            progress.update(docs_in=total.docs_in, skipped_count=total.skipped_count, skipped_ids=total.skipped_ids)
        found = work.reduce(runs_by_label(outputs, partitions))
        work.publish()
        progress["keys_out"] = sum(counts.keys for counts in found.values())
        progress["outputs"] = {label: counts.keys for label, counts in found.items()}

    def _connect(self) -> MongoClient[dict[str, Any]]:
        if self._client is None:
            self._client = MongoClient(
                self._settings.mongo_address(), document_class=dict, tz_aware=True, type_registry=PLAIN
            )
        return self._client


def _failed(job_id: str, error: MapReduceError, progress: Mapping[str, Any]) -> JobStatus:
    document = error.to_document()
    return JobStatus(job_id, ERROR, document, document["details"].get("traceback"), progress)
