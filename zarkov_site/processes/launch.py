"""Run `up`: lock the home folder, start the parts in order, load the sample on the first start, watch, stop.

`zarkov_site.processes.parts` lists the parts; `zarkov_site.processes.supervisor` watches them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from django.core.management import call_command
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from zarkov_site.config.config import ROOT, Config
from zarkov_site.exceptions import HomeError
from zarkov_site.processes import first_use, parts
from zarkov_site.processes.mongod import refuse_standalone
from zarkov_site.processes.stop_limit import mongodb_answers
from zarkov_site.processes.supervisor import Part, PartFailedError, Supervisor
from zarkov_site.processes.task_files import TaskFileWatch, find_task_files

READY_WITHIN_S = 60.0
SAMPLE_WITHIN_S = 900.0  # loading takes half a minute on two idle cores, and shows its progress
TASK_FILE_CHECK_S = 1.0


class StoppedEarlyError(Exception):
    """The user pressed Ctrl-C while the parts were still starting."""


class Launch:
    """One running system. `run` blocks until `stopped` or a part fails for good, and leaves no process behind."""

    def __init__(self, config: Config, stopped: Callable[[], bool], *, with_sample: bool, output: TextIO) -> None:
        self._config = config
        self._stopped = stopped
        self._with_sample = with_sample
        self._supervisor = Supervisor(
            config.folder, parts.child_environment(os.environ), cwd=Path.cwd(), verbose=config.verbose, output=output
        )

    def run(self) -> None:
        """Start everything, print the greeting, and watch.

        Raise a `SiteError` that says which part failed, why, and what to do.
        """
        self._config.refuse_exposure()
        with self._config.folder.locked("up", wait=False):
            parts.refuse_taken_ports(self._config)
            self._config.folder.clear_addresses()
            try:
                self._start()
                self._watch()
            except StoppedEarlyError:
                pass
            finally:
                self._supervisor.report("stopping")
                self._supervisor.stop("mongod", lambda: mongodb_answers(self._config.mongo_address))
                self._config.folder.clear_addresses()

    def _start(self) -> None:
        if not self._config.mongo_uri:
            self._supervisor.start(parts.mongod_part())
            self._wait(self._mongod_is_ready, "mongod")
        with self._client(timeout_ms=10_000) as client:
            refuse_standalone(client)
        self._go_on()
        call_command("initdb", stdout=io.StringIO())
        self._go_on()
        listed = parts.list_parts(self._config)
        for part in listed:
            if not part.needs_tables:
                self._supervisor.start(part)
        call_command("migrate", verbosity=0, interactive=False)
        self._go_on()
        first_use.define_metrics(self._config.folder)
        password = first_use.admin_password(self._config.folder)
        self._go_on()
        for part in listed:
            if part.needs_tables:
                self._supervisor.start(part)
        for part in listed:
            self._wait(functools.partial(self._is_ready, part), part.name)
        if self._with_sample and first_use.is_first_start(self._config.folder):
            self._load_sample()
        first_use.record_start(self._config.folder)
        token = first_use.ingest_token()
        address = self._config.folder.address("web").rstrip("/") + "/"
        public = self._config.public_url or ""
        self._supervisor.write(greeting(address, self._config.folder.admin_password, password, token, public))

    def _go_on(self) -> None:
        if self._stopped():
            raise StoppedEarlyError

    def _mongod_is_ready(self) -> bool:
        if "mongod" not in self._supervisor.running():
            return False
        with contextlib.suppress(HomeError, PyMongoError), self._client(timeout_ms=200) as client:
            return bool(client.admin.command("hello").get("isWritablePrimary"))
        return False

    def _client(self, timeout_ms: int) -> MongoClient[dict[str, Any]]:
        address = self._config.mongo_address()
        return MongoClient(address, serverSelectionTimeoutMS=timeout_ms, connectTimeoutMS=timeout_ms)

    def _is_ready(self, part: Part) -> bool:
        recorded = self._config.folder.addresses()
        return part.name in self._supervisor.running() and all(key in recorded for key in part.ready_keys)

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float = READY_WITHIN_S) -> None:
        def met() -> bool:
            self._go_on()
            return condition()

        self._supervisor.wait(met, timeout_s, what)

    def _load_sample(self) -> None:
        """Load the sample in a child process, while this one watches the parts."""
        self._supervisor.report("first start: loading the sample, 78,253 events, through the ingester")
        command, environment = parts.manage("sampledata", "load"), parts.child_environment(os.environ)
        loader = subprocess.Popen(command, env=environment, process_group=0)  # Ctrl-C reaches only this process
        try:
            self._wait(lambda: loader.poll() is not None, "the sample", SAMPLE_WITHIN_S)
        finally:
            if loader.poll() is None:
                loader.terminate()
                loader.wait()
        if loader.returncode:
            raise PartFailedError(
                f"loading the sample failed with exit code {loader.returncode}; see its output above. "
                "To start without the sample, use --no-sample"
            )

    def _watch(self) -> None:
        files = TaskFileWatch(find_task_files)
        next_check = time.monotonic() + TASK_FILE_CHECK_S
        while not self._stopped():
            self._supervisor.step(0.2)
            if time.monotonic() < next_check:
                continue
            next_check = time.monotonic() + TASK_FILE_CHECK_S
            if changed := files.changed():
                names = ", ".join(_display_path(path) for path in changed)
                self._supervisor.report(f"{names} changed: reloading the parts that run tasks")
                self._supervisor.reload_task_code()


def _display_path(path: Path) -> str:
    """Return the path relative to the project, if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def greeting(address: str, password_file: Path, password: str, token: str, public_url: str = "") -> str:
    """Return the text that `up` prints once everything runs: addresses, password, and how to send an event.

    The addresses are those of this machine; `public_url`, unless empty, is what others use through a proxy.
    """
    through_proxy = f"\n    for others  {public_url}/   through the proxy" if public_url else ""
    event = '{"type": "hello", "context": {"project": "mine"}}'
    program = Path(sys.argv[0]).name
    return f"""
  Zarkov is running.

    look        {address}{through_proxy}
    charts      {address}dashboards/
    admin       {address}admin/   user admin, password {password}   (also in {password_file})
    send        curl -H "Authorization: Token {token}" \\
                     -H "Content-Type: application/json" \\
                     -d '{event}' \\
                     {address}api/v1/events/

  The overview shows that event within a second. This token ends with the next start; create a lasting one with
  `{program} token NAME --scope ingest`. Ctrl-C stops everything.
"""
