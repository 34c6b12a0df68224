"""Name the files of the repository."""

from __future__ import annotations

from pathlib import Path

from zarkov_site.config.config import REPOSITORY


def named(path: Path) -> str:
    """Return the path below the root of the repository."""
    return str(path.relative_to(REPOSITORY))
