"""No process that tests started outlives a killed pytest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A plain child, a stopped one, one in its own session, a grandchild, and one started by a thread that has ended.
CONFTEST = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from tests.support.leftovers import guard

folder = Path(__file__).parent
(folder / "home").mkdir()
guard(folder / "home")
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
started = [subprocess.Popen(SLEEP), subprocess.Popen(SLEEP)]
os.kill(started[1].pid, signal.SIGSTOP)
parent = "import subprocess, sys; child = subprocess.Popen(%r); print(child.pid, flush=True); child.wait()" % SLEEP
apart = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
started.append(subprocess.Popen([sys.executable, "-c", parent], **apart))
grandchild = int(started[-1].stdout.readline())
thread = threading.Thread(target=lambda: started.append(subprocess.Popen(SLEEP)))
thread.start()
thread.join()
(folder / "new").write_text(" ".join(map(str, [grandchild, *(process.pid for process in started)])))
(folder / "new").rename(folder / "pids")
"""


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_started_by_fixtures_end_with_a_killed_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("import time\n\ndef test_it():\n    time.sleep(600)\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with (tmp_path / "log").open("wb") as log:
        tests = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        eventually((tmp_path / "pids").exists, 200, "the children")
        started = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert [is_running(pid) for pid in started] == [True] * 5
    finally:
        tests.send_signal(signal.SIGKILL)
        tests.wait()
    eventually(lambda: not [pid for pid in started if is_running(pid)], what=f"the end of {started}")
    eventually(lambda: not (tmp_path / "home").exists(), what="the home folder is removed")
