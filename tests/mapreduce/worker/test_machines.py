from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.mapreduce.cluster import REPOSITORY


def test_workers_on_other_machines_survive_a_link_that_is_cut_and_healed(tmp_path: Path) -> None:
    """Fail where network namespaces are not allowed: nothing else here shows that it works."""
    allowed = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    assert allowed.returncode == 0, f"`unshare -n` is not allowed here, so there are no machines: {allowed.stderr}"
    found = subprocess.run(
        [
            "unshare",
            "-n",
            "--kill-child",
            "--fork",
            sys.executable,
            "-m",
            "tests.support.mapreduce.machines",
            str(tmp_path),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    log = tmp_path / "cluster" / "log.txt"
    assert "result equal" in found.stdout, found.stderr + (log.read_text() if log.exists() else "")
