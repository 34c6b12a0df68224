"""A folder in memory for files that a test process writes all the time and that need not survive it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # a tmpfs on Linux
SPARE_BYTES = 6 * 2**30  # the mongods of some test processes: logs, an oplog of at most 1 GiB each, small databases


def memory_folder(prefix: str, memory: Path = MEMORY, spare_bytes: int = SPARE_BYTES) -> Path:
    """Make a folder and return its path: in memory if there is plenty of it, else where temporary files are.

    A sync of a file takes milliseconds on a disk and nothing in memory. SIGKILL loses as little here as there.
    """
    folder = memory if _spare_bytes(memory) >= spare_bytes else None
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder))


def _spare_bytes(folder: Path) -> int:
    """Return how much may be written to `folder`: at most half of what memory has free, 0 without a right to it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return 0
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return min(shutil.disk_usage(folder).free, int(memory.split()[1]) * 1024 // 2)
