"""Folders of one running process: locked while it lives (flock(2)), swept by the next when it was killed.

In the folder of a worker host lies one for each job, whose name cannot be anything but that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from mapreduce.job import value_check

_LOCK = "lock"
_JOB = "job."


class LockedFolder:
    """A new folder below `root`, mode 0700, held until `release` or the end of this process.

    Before it is made, folders of the same prefix whose process is no more are removed. Raises `OSError`.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(root, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        # Locked before it has its name, so that nobody can take it for one that is free.
        unnamed = self.path / f"{_LOCK}.new"
        self._descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(self.path / _LOCK)

    def release(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def sweep(root: Path, prefix: str) -> None:
    """Remove folders of this prefix that nobody holds; those without a lock are not ours, or not made yet."""
    for folder in root.glob(f"{prefix}*"):
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def job_folder(root: Path, job_id: str) -> Path:
    """The folder of one job directly below `root`, and of no other job. Raises `SpecError` for what is no job id."""
    return root / f"{_JOB}{value_check.job_id(job_id).replace(':', '~')}"


def remove_job(root: Path, job_id: str) -> None:
    """Remove the folder of a job with all that is in it; whatever else lies below `root` stays. Raises `SpecError`."""
    shutil.rmtree(job_folder(root, job_id), ignore_errors=True)
