"""Find the files of task modules, and notice when they change."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from aggregates.task_modules import task_modules


def find_task_files() -> list[Path]:
    """Return the file of each module that may hold tasks and can be found, even if importing it would fail."""
    found = []
    for name in task_modules():
        with contextlib.suppress(ImportError, ValueError):
            importlib.invalidate_caches()
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                found.append(Path(spec.origin))
    return found


class TaskFileWatch:
    """Watch the files of task modules for changes, by modification time and size."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._seen = self._read_stats()

    def changed(self) -> list[Path]:
        """Return the files that were created, deleted or changed since the last call."""
        before, self._seen = self._seen, self._read_stats()
        return sorted(path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path))

    def _read_stats(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for path in self._paths():
            try:
                status = os.stat(path)  # noqa: PTH116 - one call for both figures
            except OSError:
                continue
            found[path] = (status.st_mtime_ns, status.st_size)
        return found
