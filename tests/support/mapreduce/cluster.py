"""Run a router and workers as real processes, for tests and benchmarks that kill, stop and measure them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from mapreduce.engine.zmq import ZmqEngine
from mapreduce.settings import EngineSettings
from tests.support.mapreduce.ready import takes_jobs
from tests.support.mapreduce.serve import settings_from
from tests.support.ports import reserved_addresses
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY


class Cluster:
    """The router and workers of one test; `stop` ends all of them, stopped ones too."""

    def __init__(self, folder: Path, mongo_uri: str, database: str, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        request_address, worker_address = reserved_addresses(2)  # kept over restarts, as by a service
        self.values: dict[str, Any] = {
            "engine": "zmq",
            "addresses": str(folder / "addresses.json"),
            "req_bind": request_address,
            "worker_bind": worker_address,
            "mongo_uri": mongo_uri,
            "mongo_database": database,
            "job_root": str(folder / "zmr"),
            "allowed_modules": ["tests.support.mapreduce.tasks"],
            "processes_per_worker": 1,
            "spare_processes": 0,  # they take time to start; tests of spares ask for them
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
        """Wait until `workers` workers have an executor ready for each of their slots."""
        eventually(lambda: self.idle() >= workers, what=f"{workers} idle workers")

    def idle(self) -> int:
        spare = self.values["spare_processes"]
        found = self.engine.config()["workers"]
        return sum(worker["idle"] >= worker["slots"] and worker["spare"] >= spare for worker in found)

    def start_router(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self.values["addresses"]).unlink()
        self.router = self._spawn("router", self.values)
        eventually(self._is_bound, what="addresses of the router")
        eventually(lambda: takes_jobs(self.settings.req_uri(), self.settings.curve), what="the router takes jobs")

    def _is_bound(self) -> bool:
        assert self.router is not None
        assert self.router.poll() is None, self.log()
        return Path(self.values["addresses"]).exists()

    def start_worker(self, prefix: Sequence[str] = (), **changes: Any) -> subprocess.Popen[bytes]:
        """Start a worker; `prefix` goes before its command, for example to enter a namespace."""
        worker = self._spawn("worker", {**self.values, **changes}, prefix)
        self.workers.append(worker)
        return worker

    def executors(self, worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """Return the executor processes of a worker."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(worker.pid).children()
        return []

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the process with SIGKILL, and wait until it is gone."""
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
            [*prefix, sys.executable, "-m", "tests.support.mapreduce.serve", role, json.dumps(values)],
            cwd=REPOSITORY,
            stdout=self._log,
            stderr=self._log,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("ZARKOV_TEST_PATH", "")]),
            },
        )
