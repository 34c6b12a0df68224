"""Executor process, which runs one step at a time: `python -m mapreduce.worker.executor ADDRESS PARENT_PID`.

It is a child of a worker and dies with it. It has no connection to the router.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import zmq
from pymongo import MongoClient

from mapreduce.codec import PLAIN, decode, encode
from mapreduce.exceptions import TASK_FAILURES, CodeChangedError, MapReduceError, OutputGoneError, TaskUnableError
from mapreduce.job.basic_job import CallSpec, run_call
from mapreduce.job.function_registry import Registry
from mapreduce.job.spec import JobSpec
from mapreduce.job.spec_check import checked_spec
from mapreduce.resource_error import as_unable, may_be_of_host
from mapreduce.scheduler.map_output_index import pack_segments, unpack_segments
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PROBE, PUBLISH, SMALL
from mapreduce.settings import CurveKeys
from mapreduce.step.reader import KeyRange
from mapreduce.step.reduce import SortedRun
from mapreduce.step.step_runner import MEMORY_SHARE, ReduceCounts, StepLimits, StepRunner
from mapreduce.store_error import as_engine_error, may_have_moved
from mapreduce.store_identity import IdentityCheck
from mapreduce.task_error import Aborted, described
from mapreduce.traceback_text import task_traceback
from mapreduce.wire import message
from mapreduce.worker.fetch import Fetcher, Wanted
from mapreduce.worker.locked_folder import job_folder

_RUNNERS_KEPT = 8
_PR_SET_PDEATHSIG = 1  # prctl(2): signal sent to this process when its parent ends

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutorConfig:
    """Settings that a worker sends to an executor at its start."""

    worker_id: str
    folder: str  # the worker's folder of map output
    mongo_address: str
    allowed_modules: list[str]
    allow_source: bool
    worker_setup: str | None
    map_job_size: int
    spill_bytes: int
    compress: int
    memory_bytes: int  # an executor that uses more exits after its step
    split_limit_s: float  # longest time for which the read of a split can keep the server busy
    steps_per_process: int  # steps after which an executor exits, 0 = never
    curve: list[str] | None  # public and secret key of all sockets between machines; None = not encrypted

    def to_bytes(self) -> bytes:
        """Return the BSON that is sent to the executor."""
        return encode(asdict(self))


class Executor:
    """Run steps for a worker, one at a time. Belongs to one thread."""

    def __init__(self, socket: Any, config: ExecutorConfig, context: Any) -> None:
        self._socket = socket
        self._config = config
        self._registry = Registry(config.allowed_modules, allow_source=config.allow_source)
        self._fetcher = Fetcher(context, config.worker_id, CurveKeys(*config.curve) if config.curve else None)
        self._client: MongoClient[dict[str, Any]] | None = None
        self._identity = IdentityCheck()
        self._runners: OrderedDict[tuple[str, bytes], StepRunner] = OrderedDict()
        self._steps = 0
        self._attempt = ""
        self._job = ""
        self._reported_s = 0.0
        self._report_every_s = 0.0
        self._process = psutil.Process()

    def run(self) -> None:
        """Run steps until this process must be replaced."""
        self._socket.send_multipart(message.pack(message.READY, {"pid": os.getpid()}))
        while True:
            kind, header, payload = message.unpack(self._socket.recv_multipart())
            if kind == message.TASK and not self._run_step(header, payload):
                return

    def _run_step(self, header: dict[str, Any], payload: Any) -> bool:
        """Run one step and send its result; return False if this process must exit."""
        self._attempt, self._job, self._reported_s = header["attempt"], header["job"], time.monotonic()
        self._report_every_s = header["say_s"]
        self._steps += header["kind"] != PROBE
        base = {"attempt": self._attempt, "job": self._job}
        stays = True
        try:
            result, held, data = self._perform(header, payload)
            stays = self._can_stay()
            frames = message.pack(message.DONE, {**base, "result": result, "held": held, "leaves": not stays}, *data)
        except Aborted:
            frames = message.pack(message.FAILED, {**base, "error": None, "leaves": False})
        except CodeChangedError as error:
            stays = False
            if self._loaded_before(header):
                frames = message.pack(message.STALE, base)
            else:
                frames = message.pack(message.FAILED, {**base, "error": error.to_document(), "leaves": True})
        except BaseException as error:  # noqa: BLE001 - every failure is reported; the router decides what to do
            known = _engine_error(error, elsewhere=header["elsewhere"])
            stays = not may_have_moved(error)
            frames = message.pack(message.FAILED, {**base, "error": known.to_document(), "leaves": not stays})
        self._attempt = ""
        self._socket.send_multipart(frames)
        return stays

    def _perform(
        self, header: dict[str, Any], payload: Any
    ) -> tuple[dict[str, Any], dict[str, Any] | None, list[bytes]]:
        kind = header["kind"]
        if kind == PROBE:
            return {}, None, []
        if kind == CALL:
            self._send_progress(0, None)  # a call that is not confirmed soon is begun elsewhere
            call = CallSpec.from_document(decode(header["spec"]))
            return {"result": run_call(call, self._registry)}, None, []
        self._identity.check(self._connect(), header.get("store"))
        runner = self._runner(header)
        if kind == PLAN:
            return {"splits": [span.to_document() for span in runner.plan()]}, None, []
        if kind == SMALL:
            mapped, reduced = runner.small(self._report, elsewhere=header["elsewhere"])
            return {**asdict(mapped), "outputs": _counted(reduced)}, None, []
        if kind == MAP_STEP:
            return self._map(runner, header)
        if kind == PUBLISH:
            runner.publish()
            return {}, None, []
        return self._reduce(runner, header, payload), None, []

    def _map(self, runner: StepRunner, header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
        span = KeyRange.from_document(header["split"])
        output, counts = runner.map(
            span, header["partitions"], lambda docs: self._report(docs, None), elsewhere=header["elsewhere"]
        )
        held = {
            "split": header["index"],
            "attempt": self._attempt,
            "path": None if output.path is None else str(output.path),
            "segments": pack_segments([segment.to_list() for segment in output.segments]),
            "length": sum(segment.length for segment in output.segments),
            **asdict(counts),
            "span": header["split"],
        }
        return {}, held, [] if output.data is None else [output.data]

    def _reduce(self, runner: StepRunner, header: dict[str, Any], payload: Any) -> dict[str, Any]:
        found: dict[tuple[str, int], list[SortedRun]] = {}
        wanted: dict[tuple[str, int], list[Wanted]] = {}
        data, position = bytes(payload[0]), 0
        runs = unpack_segments(header["runs"])
        for label, partition, holder, split, attempt, path, offset, length in runs:
            name = (label, partition)
            found.setdefault(name, [])
            if holder is None:
                found[name].append(SortedRun(length, data[position : position + length]))
                position += length
                continue
            item = Wanted(holder[0], holder[1], split, attempt, path, offset, length)
            local = self._fetcher.local(item)
            if local is not None:
                found[name].append(local)
            else:
                wanted.setdefault(name, []).append(item)
        scratch: list[Path] = []
        try:
            partitions: dict[str, Any] = {}
            for number, (name, here) in enumerate(found.items()):
                bring = partial(self._gather, here, wanted.get(name, []), number, scratch)
                partitions.setdefault(name[0], []).append(bring)
            counts = runner.reduce(partitions, lambda phase, keys: self._report(keys, phase))
        except OutputGoneError as error:
            if "splits" not in error.details:  # a file of our own worker is gone: assume that all of them are
                own = {run[3] for run in runs if run[2] and run[2][0] == self._config.worker_id}
                error.details["splits"] = sorted(own)
            raise
        finally:
            for path in scratch:
                path.unlink(missing_ok=True)
        return {"outputs": _counted(counts)}

    def _gather(self, runs: list[SortedRun], wanted: list[Wanted], number: int, scratch: list[Path]) -> list[SortedRun]:
        """Return the runs of one partition after fetching those of other workers: into memory if they are small."""
        target = None
        if sum(item.length for item in wanted) > self._config.spill_bytes // MEMORY_SHARE:
            target = Path(self._config.folder) / f"fetched.{self._attempt}.{number}.bson"
            scratch.append(target)
        return runs + self._fetcher.fetch(self._job, wanted, target)

    def close(self) -> None:
        self._fetcher.close()
        if self._client is not None:
            self._client.close()

    def _runner(self, header: dict[str, Any]) -> StepRunner:
        name = (header["job"], header["spec"])
        runner = self._runners.get(name)
        if runner is None:
            config = self._config
            spec = checked_spec(JobSpec.from_document(decode(header["spec"])), allow_source=config.allow_source)
            folder = job_folder(Path(config.folder), spec.job_id)
            limits = StepLimits(
                config.map_job_size,
                config.spill_bytes,
                config.compress,
                folder,
                f"{os.getpid()}.{self._steps}",
                config.split_limit_s,
            )
            runner = self._runners[name] = StepRunner(spec, self._connect(), self._registry, limits)
            if len(self._runners) > _RUNNERS_KEPT:
                self._runners.popitem(last=False)
        return runner

    def _connect(self) -> MongoClient[dict[str, Any]]:
        if self._client is None:
            self._client = MongoClient(
                self._config.mongo_address,
                serverSelectionTimeoutMS=5_000,
                tz_aware=True,
                type_registry=PLAIN,
                event_listeners=[self._identity],
            )
        return self._client

    def _report(self, docs: int, phase: str | None) -> None:
        """Send progress at intervals and at each change of phase. Raise `Aborted` if the worker aborts the step."""
        now = time.monotonic()
        if phase is None and now - self._reported_s < self._report_every_s:
            return
        self._reported_s = now
        self._send_progress(docs, phase)
        while self._socket.poll(0):
            kind, order, _ = message.unpack(self._socket.recv_multipart())
            if kind == message.ABORT and order["attempt"] == self._attempt:
                raise Aborted

    def _send_progress(self, docs: int, phase: str | None) -> None:
        header = {"attempt": self._attempt, "job": self._job, "docs": docs, "phase": phase}
        self._socket.send_multipart(message.pack(message.PROGRESS, header))

    def _loaded_before(self, header: dict[str, Any]) -> bool:
        """Return True if the files match the job's code, so that a new process would load the right version."""
        wanted = dict(decode(header["spec"])["code"])
        return self._registry.versions([f"{module}:x" for module in wanted]) == wanted

    def _can_stay(self) -> bool:
        limit = self._config.steps_per_process
        if limit and self._steps >= limit:
            return False
        return int(self._process.memory_info().rss) <= self._config.memory_bytes


def _counted(counts: dict[str, ReduceCounts]) -> list[list[Any]]:
    return [[label, c.keys, c.written, c.present, c.late] for label, c in counts.items()]


def _engine_error(error: BaseException, *, elsewhere: bool) -> MapReduceError:
    """Return what the router is told: that this host may be unable to do the step, if another one can try it."""
    known = as_engine_error(error) or as_unable(error)
    if elsewhere and isinstance(known, TASK_FAILURES) and may_be_of_host(known):
        return TaskUnableError(f"{known.message}: trying another host", known.details)
    if known is None:
        log.error("step failed", exc_info=error)
        known = MapReduceError(described(error), {"traceback": task_traceback(error)})
    return known


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends: by signal on Linux, and as soon as standard input closes anywhere."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def main(address: str, parent: int) -> int:
    """Connect to the worker at `address`, run steps for it, and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.set(zmq.LINGER, 2_000)
    socket.set_hwm(1_000)
    socket.connect(address)
    socket.send_multipart(message.pack(message.HELLO, {"pid": os.getpid()}))
    config = ExecutorConfig(**decode(socket.recv()))
    if config.worker_setup:
        module, _, name = config.worker_setup.partition(":")
        getattr(importlib.import_module(module), name)()
    # Steps create thousands of short-lived objects without cycles: collect rarely, and skip all that is loaded already.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    executor = Executor(socket, config, context)
    executor.run()
    executor.close()
    socket.close()
    context.term()
    return 0


if __name__ == "__main__":
    # Import under the real name, so that the classes it raises and pickles are the same everywhere.
    sys.exit(importlib.import_module("mapreduce.worker.executor").main(sys.argv[1], int(sys.argv[2])))
