"""Tests of `tests.repeat`, which finds tests that fail now and then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from zarkov_site.config.config import REPOSITORY

# Fails in every second run: the first makes a file, the next finds and deletes it.
FLAKY = """
from pathlib import Path

def test_flaky():
    mark = Path(__file__).with_name("mark")
    if mark.exists():
        mark.unlink()
        raise AssertionError("found a mark")
    mark.touch()
"""


# pytest with its own plugins starts four times as quickly.
ENVIRONMENT = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p xdist"}


def repeat(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.repeat", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_a_test_that_fails_now_and_then_is_found_and_its_output_kept(tmp_path: Path) -> None:
    module = tmp_path / "test_flaky.py"
    module.write_text(FLAKY)
    ended = repeat("--times", "4", "--busy", "1", str(module))
    assert ended.returncode == 1
    *lines, summary = ended.stdout.splitlines()
    assert summary == "2 passed, 2 failed"
    logs = [Path(line.rpartition("see ")[2]) for line in lines if "see " in line]
    assert ["found a mark" in log.read_text() for log in logs] == [True, True]
    for log in logs:
        log.unlink()
    logs[0].parent.rmdir()


def test_tests_that_always_pass_leave_nothing(tmp_path: Path) -> None:
    module = tmp_path / "test_fine.py"
    module.write_text("def test_fine(): pass\n")
    ended = repeat("--times", "2", "--jobs", "2", "--busy", "0", str(module))
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "2 passed, 0 failed")
    assert "see " not in ended.stdout
