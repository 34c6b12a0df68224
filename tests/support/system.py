"""Run a whole system for tests: `manage.py up` in its own home folder, on free ports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder

READY_WITHIN_S = 170.0
MANAGE = (sys.executable, str(REPOSITORY / "manage.py"))
FREE_PORTS = {
    "ZARKOV_BSON_BIND_ADDRESS": "tcp://127.0.0.1:0",
    "ZARKOV_JSON_BIND_ADDRESS": "tcp://127.0.0.1:0",
    "ZARKOV_ACK_BIND_ADDRESS": "tcp://127.0.0.1:0",
    "ZARKOV_PUBLISH_BIND_ADDRESS": "tcp://127.0.0.1:0",
    "ZARKOV_ZMR__REQ_BIND": "tcp://127.0.0.1:0",
    "ZARKOV_ZMR__WORKER_BIND": "tcp://127.0.0.1:0",
    "ZARKOV_METRICS__PORT": "0",
    "ZARKOV_METRICS__OWN_INTERVAL_S": "0",  # tests count events
    "ZARKOV_WEB_PORT": "0",
    "ZARKOV_ANONYMOUS_READ": "true",
}


class System:
    """`manage.py up` as a child process."""

    def __init__(
        self, home: Path, *arguments: str, cwd: Path | None = None, program: Sequence[str] = MANAGE, **environ: str
    ) -> None:
        self.folder = HomeFolder(home)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZARKOV_")}
        clean.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
        self.environ = clean | FREE_PORTS | {"ZARKOV_HOME": str(home)} | environ
        self.cwd = cwd or REPOSITORY
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.ready_s = 0.0
        self.process = subprocess.Popen(
            [*program, "up", *arguments],
            env=self.environ,
            cwd=self.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """Return everything printed so far."""
        return "\n".join(self.lines)

    def wait_until_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the greeting is printed; raise `AssertionError` if the process ends before."""
        eventually(
            lambda: "Ctrl-C stops everything" in self.output or self.process.poll() is not None,
            within_s,
            f"`up`; it printed so far:\n{self.output}",
        )
        assert self.process.poll() is None, self.output
        self.ready_s = time.monotonic() - self.started

    def url(self, path: str = "") -> str:
        """Return the address of a page."""
        return self.folder.address("web").rstrip("/") + "/" + path

    def get(self, path: str) -> str:
        """Return the body of a page that needs no login."""
        with urllib.request.urlopen(self.url(path), timeout=90) as answer:
            return str(answer.read().decode())

    def curl_line(self) -> str:
        """Return the curl command as printed in the greeting."""
        printed = list(self.lines)
        start = next(i for i, line in enumerate(printed) if "curl -H" in line)
        taken = []
        for line in printed[start:]:
            taken.append(line)
            if not line.endswith("\\"):
                break
        return "\n".join(taken).split("send", 1)[1].strip()

    def manage(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another management command against this system."""
        command = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        return subprocess.run(
            command,
            env=self.environ,
            cwd=self.cwd,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def descendants(self) -> list[psutil.Process]:
        """Return every process that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send the signal and wait for the end; return the seconds it took."""
        before = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(90)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return time.monotonic() - before


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended; a zombie has."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def running(
    home: Path,
    *arguments: str,
    cwd: Path | None = None,
    program: Sequence[str] = MANAGE,
    ready_within_s: float = READY_WITHIN_S,
    **environ: str,
) -> Iterator[System]:
    """Yield a ready system and stop it afterwards; kill all its processes if it does not stop."""
    system = System(home, *arguments, cwd=cwd, program=program, **environ)
    try:
        system.wait_until_ready(ready_within_s)
        yield system
    finally:
        left = system.descendants()
        try:
            system.stop()
        finally:
            if system.process.poll() is None:
                system.process.kill()
                system.process.wait(10)
            for process in alive(left):
                process.kill()


def peak_bytes(process_id: int) -> int:
    """Return the most resident memory that a process has had so far. Raise `OSError` if it has ended."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
