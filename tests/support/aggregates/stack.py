"""Run ingester, router, worker and aggregator as real processes on their own database, for crashes and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.support.mapreduce.ready import takes_jobs
from tests.support.migrated_database import put_migrated_database
from tests.support.ports import reserved_addresses
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder
from zarkov_site.processes.mongod import LocalMongod

COMMANDS = {
    "ingester": ("runingest",),
    "router": ("runrouter",),
    "worker": ("runworker", "--processes", "2"),
    "aggregator": ("runaggregator",),
}
_CELERY = ("-m", "celery", "-A", "zarkov_site", "--skip-checks")
CELERY_COMMANDS = {
    "celery": (*_CELERY, "worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    "beat": (*_CELERY, "beat", "--pidfile="),
}
PAUSED = (
    "-m",
    "tests.support.aggregates.command_stopped_at_failpoint",
)  # goes before a failpoint at which the command stops
READY = {"ingester": ("bson_bind_address", "publish_bind_address"), "router": ("zmr.req_bind", "zmr.worker_bind")}


class Stack:
    """Start processes by name and kill them; `stop` ends all."""

    def __init__(self, folder: Path, mongo_uri: str, database: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = HomeFolder(folder / "home")
        request_address, worker_address = reserved_addresses(2)  # kept over restarts, as by a service
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ZARKOV_")},
            "ZARKOV_HOME": str(self.folder.root),
            "ZARKOV_MONGO_URI": mongo_uri,
            "ZARKOV_MONGO_DATABASE": database,
            "ZARKOV_TASK_MODULES": "tests.support.aggregates.tasks",
            **{f"ZARKOV_{key}_BIND_ADDRESS": "tcp://127.0.0.1:0" for key in ("BSON", "JSON", "ACK", "PUBLISH")},
            "ZARKOV_ZMR__REQ_BIND": request_address,
            "ZARKOV_ZMR__WORKER_BIND": worker_address,
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (folder / "log.txt").open("ab")

    def manage(
        self, *arguments: str, check: bool = True, prefix: Sequence[str] = (str(REPOSITORY / "manage.py"),)
    ) -> subprocess.CompletedProcess[str]:
        """Run one command and wait until it ends."""
        command = [sys.executable, *prefix, *arguments]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def shell(self, code: str) -> str:
        """Run Python in the Django shell."""
        return self.manage("shell", "-c", code).stdout

    def start(self, name: str, kind: str = "", prefix: Sequence[str] = (str(REPOSITORY / "manage.py"),)) -> None:
        """Start a process, and wait until it can be reached."""
        kind = kind or name
        words = CELERY_COMMANDS.get(kind) or (*prefix, *COMMANDS.get(kind, ()))
        command = [sys.executable, *words]
        if known := READY.get(kind):
            addresses = self.folder.addresses()
            self.folder.remove_addresses({key: addresses[key] for key in known if key in addresses})
        self.processes[name] = subprocess.Popen(
            command, cwd=REPOSITORY, env=self.environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        if known:
            eventually(lambda: self._reachable(name, known), what=f"addresses of {name}")
            if kind == "router":
                eventually(lambda: takes_jobs(self.folder.address("zmr.req_bind")), what=f"{name} takes jobs")

    def _reachable(self, name: str, keys: Sequence[str]) -> bool:
        code = self.processes[name].poll()
        assert code is None, f"{name} ended with code {code}; the end of the log:\n{self.log()[-4_000:]}"
        return all(key in self.folder.addresses() for key in keys)

    def start_all(self) -> None:
        """Put a migrated database into the home folder, then start every process."""
        put_migrated_database(self.folder)
        for name in COMMANDS:
            self.start(name)

    def kill(self, name: str) -> None:
        """Kill the process and its children with SIGKILL, and wait until they are gone."""
        process = self.processes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End every process, with SIGTERM first."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name in list(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(timeout=60)
            self.kill(name)
        self._log.close()

    def log(self) -> str:
        """Return what the processes logged."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")


def crash(stack: Stack, mongod: LocalMongod, victim: str) -> None:
    """Kill one process and start it again."""
    if victim == "mongod":
        mongod.process.kill()
        mongod.process.wait()
        mongod.stop()
        stack.folder.write(stack.folder.mongo / "uri", mongod.start())
        return
    stack.kill(victim)
    stack.start(victim, victim.rstrip("2"))
