"""An executor process: does one step at a time for its worker host. Run as `python -m mapreduce.executor ADDRESS`.

It holds no connection to the router, and ends with its host however that ends.
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

from mapreduce.codec import decode, encode
from mapreduce.exceptions import CodeChangedError, MapReduceError, OutputGoneError
from mapreduce.job.basic_job import CallSpec, run_call
from mapreduce.job.function_registry import Registry
from mapreduce.job.spec import JobSpec
from mapreduce.job.spec_check import checked_spec
from mapreduce.scheduler.map_output_index import pack_segments, unpack_segments
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PUBLISH, SMALL
from mapreduce.settings import CurveKeys
from mapreduce.step.reader import KeyRange
from mapreduce.step.reduce import SortedRun
from mapreduce.step.steps import MEMORY_SHARE, ReduceCounts, StepLimits, StepRunner
from mapreduce.store_error import as_engine_error, may_have_moved
from mapreduce.task_error import Aborted, described
from mapreduce.traceback_text import task_traceback
from mapreduce.wire import message
from mapreduce.worker.fetch import Fetcher, Wanted
from mapreduce.worker.locked_folder import job_folder

_WORKS_KEPT = 8
_PR_SET_PDEATHSIG = 1  # prctl(2): signal sent to this process when its parent ends

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutorConfig:
    """What a host tells an executor when it starts."""

    worker_id: str
    folder: str  # the host's folder of map output
    mongo_address: str
    allowed_modules: list[str]
    allow_source: bool
    worker_setup: str | None
    map_job_size: int
    spill_bytes: int
    compress: int
    memory_bytes: int  # above this it leaves after its step
    split_limit_s: float  # no read of a split may keep the server busy for longer
    steps_per_process: int  # it leaves after so many steps, 0 = never
    curve: list[str] | None  # public and secret key of all sockets between machines

    def to_bytes(self) -> bytes:
        """The form in which it is sent."""
        return encode(asdict(self))


class Executor:
    """Takes steps from its host, one at a time, until told to leave. One thread."""

    def __init__(self, socket: Any, config: ExecutorConfig, context: Any) -> None:
        self._socket = socket
        self._config = config
        self._registry = Registry(config.allowed_modules, allow_source=config.allow_source)
        self._fetcher = Fetcher(context, config.worker_id, CurveKeys(*config.curve) if config.curve else None)
        self._client: MongoClient[dict[str, Any]] | None = None
        self._works: OrderedDict[tuple[str, bytes], StepRunner] = OrderedDict()
        self._steps = 0
        self._attempt = ""
        self._job = ""
        self._said_s = 0.0
        self._say_every_s = 0.0
        self._process = psutil.Process()

    def run(self) -> None:
        """Work until it is time to leave."""
        self._socket.send_multipart(message.pack(message.READY, {"pid": os.getpid()}))
        while True:
            kind, header, payload = message.unpack(self._socket.recv_multipart())
            if kind == message.TASK and not self._take(header, payload):
                return

    def _take(self, header: dict[str, Any], payload: Any) -> bool:
        """Do one step and report; returns whether to go on."""
        self._attempt, self._job, self._said_s = header["attempt"], header["job"], time.monotonic()
        self._say_every_s = header["say_s"]
        base = {"attempt": self._attempt, "job": self._job}
        stays = True
        try:
            result, held, data = self._perform(header, payload)
            stays = self._stays()
            frames = message.pack(message.DONE, {**base, "result": result, "held": held, "leaves": not stays}, *data)
        except Aborted:
            frames = message.pack(message.FAILED, {**base, "error": None, "leaves": False})
        except CodeChangedError as error:
            stays = False
            if self._loaded_before(header):
                frames = message.pack(message.STALE, base)
            else:
                frames = message.pack(message.FAILED, {**base, "error": error.to_document(), "leaves": True})
        except BaseException as error:  # noqa: BLE001 - whatever happens is reported, and the step decided by the router
            known = _known(error)
            stays = not may_have_moved(error)
            frames = message.pack(message.FAILED, {**base, "error": known.to_document(), "leaves": not stays})
        self._steps += 1
        self._attempt = ""
        self._socket.send_multipart(frames)
        return stays

    def _perform(
        self, header: dict[str, Any], payload: Any
    ) -> tuple[dict[str, Any], dict[str, Any] | None, list[bytes]]:
        kind = header["kind"]
        if kind == CALL:
            call = CallSpec.from_document(decode(header["spec"]))
            return {"result": run_call(call, self._registry)}, None, []
        work = self._work(header)
        if kind == PLAN:
            return {"splits": [span.to_document() for span in work.plan()]}, None, []
        if kind == SMALL:
            return self._small(work), None, []
        if kind == MAP_STEP:
            return self._map(work, header)
        if kind == PUBLISH:
            work.publish()
            return {}, None, []
        return self._reduce(work, header, payload), None, []

    def _map(self, work: StepRunner, header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
        span = KeyRange.from_document(header["split"])
        output, counts = work.map(span, header["partitions"], lambda docs: self._say(docs, None))
        held = {
            "split": header["index"],
            "attempt": self._attempt,
            "path": None if output.path is None else str(output.path),
            "segments": pack_segments([segment.to_list() for segment in output.segments]),
            "length": sum(segment.length for segment in output.segments),
            "docs_in": counts.docs_in,
            "pairs_out": counts.pairs_out,
            "skipped_count": counts.skipped_count,
            "skipped_ids": counts.skipped_ids,
            "span": header["split"],
        }
        return {}, held, [] if output.data is None else [output.data]

    def _reduce(self, work: StepRunner, header: dict[str, Any], payload: Any) -> dict[str, Any]:
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
                bring = partial(self._bring, here, wanted.get(name, []), number, scratch)
                partitions.setdefault(name[0], []).append(bring)
            counts = work.reduce(partitions, lambda phase, keys: self._say(keys, phase))
        except OutputGoneError as error:
            if "splits" not in error.details:  # a file of our own host: it has lost all of them
                own = {run[3] for run in runs if run[2] and run[2][0] == self._config.worker_id}
                error.details["splits"] = sorted(own)
            raise
        finally:
            for path in scratch:
                path.unlink(missing_ok=True)
        return {"outputs": _counted(counts)}

    def _small(self, work: StepRunner) -> dict[str, Any]:
        mapped, reduced = work.small(self._say)
        return {**asdict(mapped), "outputs": _counted(reduced)}

    def _bring(self, runs: list[SortedRun], wanted: list[Wanted], number: int, scratch: list[Path]) -> list[SortedRun]:
        """The runs of one partition, with those that lie elsewhere: in memory when they are few."""
        target = None
        if sum(item.length for item in wanted) > self._config.spill_bytes // MEMORY_SHARE:
            target = Path(self._config.folder) / f"fetched.{self._attempt}.{number}.bson"
            scratch.append(target)
        return runs + self._fetcher.fetch(self._job, wanted, target)

    def close(self) -> None:
        """Let go of connections."""
        self._fetcher.close()
        if self._client is not None:
            self._client.close()

    def _work(self, header: dict[str, Any]) -> StepRunner:
        name = (header["job"], header["spec"])
        work = self._works.get(name)
        if work is None:
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
            work = self._works[name] = StepRunner(spec, self._connect(), self._registry, limits)
            if len(self._works) > _WORKS_KEPT:
                self._works.popitem(last=False)
        return work

    def _connect(self) -> MongoClient[dict[str, Any]]:
        if self._client is None:
            self._client = MongoClient(self._config.mongo_address, serverSelectionTimeoutMS=5_000, tz_aware=True)
        return self._client

    def _say(self, docs: int, phase: str | None) -> None:
        """Report progress, now and then, and at each change of phase; stop when the step is not wanted any more."""
        now = time.monotonic()
        if phase is None and now - self._said_s < self._say_every_s:
            return
        self._said_s = now
        header = {"attempt": self._attempt, "job": self._job, "docs": docs, "phase": phase}
        self._socket.send_multipart(message.pack(message.PROGRESS, header))
        while self._socket.poll(0):
            kind, order, _ = message.unpack(self._socket.recv_multipart())
            if kind == message.ABORT and order["attempt"] == self._attempt:
                raise Aborted

    def _loaded_before(self, header: dict[str, Any]) -> bool:
        """Whether a fresh process would have the wanted code: the files are right, and what is loaded is not."""
        wanted = dict(decode(header["spec"])["code"])
        return self._registry.versions([f"{module}:x" for module in wanted]) == wanted

    def _stays(self) -> bool:
        limit = self._config.steps_per_process
        if limit and self._steps + 1 >= limit:
            return False
        return int(self._process.memory_info().rss) <= self._config.memory_bytes


def _counted(counts: dict[str, ReduceCounts]) -> list[list[Any]]:
    return [[label, c.keys, c.written, c.present, c.late] for label, c in counts.items()]


def _known(error: BaseException) -> MapReduceError:
    known = as_engine_error(error)
    if known is None:
        log.error("a step failed", exc_info=error)
        known = MapReduceError(described(error), {"traceback": task_traceback(error)})
    return known


def end_with_parent(parent: int) -> None:
    """End this process when its parent does: by signal on Linux, and when standard input closes everywhere."""
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
    """Connect to the host at `address` and work for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.set(zmq.LINGER, 2_000)
    socket.set(zmq.SNDHWM, 1_000)
    socket.set(zmq.RCVHWM, 1_000)
    socket.connect(address)
    socket.send_multipart(message.pack(message.HELLO, {"pid": os.getpid()}))
    config = ExecutorConfig(**decode(socket.recv()))
    if config.worker_setup:
        module, _, name = config.worker_setup.partition(":")
        getattr(importlib.import_module(module), name)()
    # Documents come and go in their thousands and hold no cycles: the collector need not look at them all the time,
    # and never at what was loaded so far.
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
    # The module under its real name: what it raises and pickles must be the same class everywhere.
    sys.exit(importlib.import_module("mapreduce.worker.executor").main(sys.argv[1], int(sys.argv[2])))
