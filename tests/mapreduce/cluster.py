"""A router and workers as real processes, for tests and benchmarks that kill, stop and measure them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from mapreduce.engine.zmq import ZmqEngine
from mapreduce.settings import EngineSettings
from tests.mapreduce.serve import settings_from

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait for `condition`, look often, and return what it gave; fails with `what` when it stays false."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"still not after {timeout_s} s: {what}"
        time.sleep(0.005)


class Cluster:
    """Processes of one test. `stop` ends all of them, stopped ones too."""

    def __init__(self, folder: Path, mongo_uri: str, database: str, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.values: dict[str, Any] = {
            "engine": "zmq",
            "addresses": str(folder / "addresses.json"),
            "req_bind": "tcp://127.0.0.1:0",
            "worker_bind": "tcp://127.0.0.1:0",
            "mongo_uri": mongo_uri,
            "mongo_database": database,
            "job_root": str(folder / "zmr"),
            "allowed_modules": ["tests.mapreduce.tasks"],
            "processes_per_worker": 1,
            "spare_processes": 0,  # they cost time to start; tests of them say so
            **changes,
        }
        self.router: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "log.txt").open("ab")
        self._engine: ZmqEngine | None = None

    @property
    def settings(self) -> EngineSettings:
        return settings_from(self.values)

    @property
    def engine(self) -> ZmqEngine:
        if self._engine is None:
            self._engine = ZmqEngine(self.settings)
        return self._engine

    def start(self, workers: int = 2) -> Cluster:
        self.start_router()
        for _ in range(workers):
            self.start_worker()
        self.ready(workers)
        return self

    def ready(self, workers: int) -> None:
        """Wait until this many workers have an executor ready for each of their slots."""
        until(lambda: self.idle() >= workers, f"{workers} idle workers", 120)

    def idle(self) -> int:
        spare = self.values["spare_processes"]
        found = self.engine.config()["workers"]
        return sum(worker["idle"] >= worker["slots"] and worker["spare"] >= spare for worker in found)

    def start_router(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self.values["addresses"]).unlink()
        self.router = self._spawn("router", self.values)
        until(Path(self.values["addresses"]).exists, f"addresses of the router, see {self._log.name}", 120)
        # From now on it keeps its ports, so that a test may restart it as a service would be.
        found = json.loads(Path(self.values["addresses"]).read_text())
        self.values.update(req_bind=found["zmr.req_bind"], worker_bind=found["zmr.worker_bind"])

    def start_worker(self, prefix: Sequence[str] = (), **changes: Any) -> subprocess.Popen[bytes]:
        """A worker host; `prefix` are words before its command, such as those that enter a namespace."""
        worker = self._spawn("worker", {**self.values, **changes}, prefix)
        self.workers.append(worker)
        return worker

    def executors(self, worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """The executor processes of a worker host."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(worker.pid).children()
        return []

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, and wait until it is gone."""
        process.kill()
        process.wait()
        if process in self.workers:
            self.workers.remove(process)

    def stop(self) -> None:
        if self._engine is not None:
            self._engine.close()
        for process in [*self.workers, *filter(None, [self.router])]:
            if process.poll() is None:
                for child in self.executors(process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
                process.send_signal(signal.SIGKILL)
            process.wait()
        self._log.close()

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def _spawn(self, role: str, values: dict[str, Any], prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.mapreduce.serve", role, json.dumps(values)],
            cwd=REPOSITORY,
            stdout=self._log,
            stderr=self._log,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("ZARKOV_TEST_PATH", "")]),
            },
        )
