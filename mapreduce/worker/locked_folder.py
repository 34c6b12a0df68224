"""Folders of one process: locked while it lives (flock(2)), and removed by the next process if it was killed.

The folder of a worker contains a folder per job, whose names cannot clash with those of other files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from mapreduce.exceptions import WorkerUnableError
from mapreduce.job import value_check

_LOCK = "lock"
_JOB = "job."


class LockedFolder:
    """A new folder below `root`, mode 0700, locked until `release` or the end of this process.

    The constructor first removes folders of the same prefix whose process has ended. It raises `WorkerUnableError`,
    which names `setting` as what to change, if `root` cannot be made or written to.
    """

    def __init__(self, root: Path, prefix: str, setting: str) -> None:
        try:
            self._create(root, prefix)
        except OSError as error:
            raise WorkerUnableError(
                f"{setting} {root} cannot be used ({error.strerror}): it must be a folder that this user can write to, "
                f"with space on its disk; mend it, or choose another one with {setting}"
            ) from error

    def _create(self, root: Path, prefix: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_abandoned(root, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        # Lock the file before it gets its name, so that no other process can find it unlocked.
        unnamed = self.path / f"{_LOCK}.new"
        self._descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(self.path / _LOCK)

    def release(self) -> None:
        """Remove the folder with its contents."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def remove_abandoned(root: Path, prefix: str) -> None:
    """Remove unlocked folders of this prefix; a folder without a lock file is not ours, or still being created."""
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
    """Return the folder of one job, directly below `root`. Raise `SpecError` if `job_id` is invalid."""
    return root / f"{_JOB}{value_check.job_id(job_id).replace(':', '~')}"


def remove_job(root: Path, job_id: str) -> None:
    """Remove the folder of a job with its contents, and nothing else. Raise `SpecError` if `job_id` is invalid."""
    shutil.rmtree(job_folder(root, job_id), ignore_errors=True)
