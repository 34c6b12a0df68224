"""Run a management command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from zarkov_site.config.config import REPOSITORY


def manage(*arguments: str, environ: Mapping[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with `environ` added to the environment of the tests; return its exit code and output."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "manage.py"), *arguments],
        env=os.environ | environ, input=stdin, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
