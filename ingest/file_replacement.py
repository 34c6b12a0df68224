"""Write small files in one step, and make the names in a folder durable."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def replace_file(path: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` to `path`, readable by its owner only; at any moment the file has the old content or all of `text`.

    Unless `durable` is false, content and name are on disk when this returns.
    """
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(descriptor)
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable; syncing the files themselves does not (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
