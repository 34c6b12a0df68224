"""A copy of one migrated SQLite database for each system that tests start, instead of all migrations for each."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

from tests.support.memory_folder import memory_folder
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder

NAME = "zarkov.sqlite3"


def put_migrated_database(folder: HomeFolder) -> None:
    """Put a database with all migrations and nothing else into a home folder that has none yet."""
    folder.prepare()
    target = folder.root / NAME
    target.touch(mode=0o600)
    assert target.stat().st_size == 0, f"{target} has content already"
    target.write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    """Return the content of a database that was migrated once in this process."""
    home = memory_folder("zarkov-migrated-")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ZARKOV_", "DATABASE_URL"))}
    try:
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=REPOSITORY, env=clean | {"ZARKOV_HOME": str(home)}, check=True, timeout=240)
        return (home / NAME).read_bytes()
    finally:
        shutil.rmtree(home)
