"""Reserve the space of the files in which a web process counts requests.

`prometheus_client` maps them into memory and grows them by holes. The kernel ends a process by SIGBUS when it writes to
a hole and the disk is full (mmap(2)). gunicorn's parent imports this module, so it may not import Django.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

KINDS = ("counter", "histogram")  # prometheus_client has one file for each kind of metric and process
RESERVED_BYTES = 2**20  # each; 6,000 requests to all addresses, by all methods, took 180 and 300 KB
_USED = struct.Struct("i")  # at the start of a file


def reserve(folder: Path) -> None:
    """Make the files of this process, or enlarge those of one that had its number. Raise `OSError` if there is no room.

    Call it before `prometheus_client` is imported: it takes files as large as they are.
    """
    paths = _files(folder, os.getpid())
    try:
        for path in paths:
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def trim(folder: Path, process: int) -> None:
    """Give back what a process that ended did not use: its counts stay until the server ends."""
    for path in _files(folder, process):
        try:
            with path.open("r+b") as file:
                (used_bytes,) = _USED.unpack(file.read(_USED.size))
                file.truncate(max(used_bytes, _USED.size))
        except (OSError, struct.error):  # it counted nothing, or in memory
            continue


def _files(folder: Path, process: int) -> list[Path]:
    return [folder / f"{kind}_{process}.db" for kind in KINDS]
