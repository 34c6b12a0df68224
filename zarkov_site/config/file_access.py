"""Take from other users of the machine what an older version, a copy or a restore let them read in a home folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE = 0o700  # of folders that we make: their files are nobody else's business, whatever the home's mode
SECRET = 0o600  # of files that hold secrets
OF_OTHERS = 0o077  # the bits of a mode that are not the owner's
_FOLDERS = ("keys", "keys/ingest-clients", "mongo", "journal", "zmr", "log", "run")
_SECRETS = (
    "zarkov.sqlite3*",
    "admin-password",
    "keys/*",
    "keys/ingest-clients/*",
    "mongo/uri",
    "mongo/keyfile",
    "mongo/password",
)


def close_to_others(root: Path) -> list[str]:
    """Set the modes of what Zarkov made in its home folder: folders 0700, files with secrets 0600.

    Return the paths that others could read and no longer can, relative to `root`. Left alone is what belongs to another
    user, a folder in which something does, and a symbolic link; the modes of `root` itself are its owner's choice.
    """
    secrets = sorted({path for pattern in _SECRETS for path in root.glob(pattern)})
    if not secrets:  # perhaps a folder of others, such as /var, with a `log` and a `run` of its own
        return []
    closed = [name for name in _FOLDERS if _set_mode(root / name, PRIVATE)]
    return closed + [str(path.relative_to(root)) for path in secrets if _set_mode(path, SECRET)]


def _set_mode(path: Path, mode: int) -> bool:
    """Set the mode of a folder (`PRIVATE`) or a file (`SECRET`) of ours; return whether others had a part in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # none, a link, or not ours to open
        return False
    try:
        found = os.fstat(descriptor)
        is_kind = stat.S_ISDIR(found.st_mode) if mode == PRIVATE else stat.S_ISREG(found.st_mode)
        if not is_kind or found.st_uid != os.geteuid() or not found.st_mode & OF_OTHERS:
            return False
        if mode == PRIVATE and _has_others_files(descriptor, found.st_uid):
            return False
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & mode)
    except OSError:  # such as of a file system without modes
        return False
    finally:
        os.close(descriptor)
    return True


def _has_others_files(descriptor: int, owner: int) -> bool:
    with os.scandir(descriptor) as entries:
        return any(entry.stat(follow_symlinks=False).st_uid != owner for entry in entries)
