"""The home folder: paths, secrets and locks below it, and the addresses that running processes record there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.file_replacement import replace_file
from zarkov_site.config.file_access import OF_OTHERS, PRIVATE, close_to_others
from zarkov_site.exceptions import HomeError


@dataclass(frozen=True)
class HomeFolder:
    """Paths below `root`. Files with secrets have mode 0600; writes replace a file atomically."""

    root: Path

    @property
    def mongo(self) -> Path:
        """Return the folder with data, log and key of the local mongod, and `uri`."""
        return self.root / "mongo"

    @property
    def log(self) -> Path:
        """Return the folder with the logs of the processes that `up` starts."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Return the folder for state of running processes: addresses, locks."""
        return self.root / "run"

    @property
    def keys(self) -> Path:
        """Return the folder with secrets: Django's key, CURVE keys."""
        return self.root / "keys"

    @property
    def client_keys(self) -> Path:
        """Return the folder with CURVE keys of programs that the ingester accepts; `own.curve` is for our processes."""
        return self.keys / "ingest-clients"

    @property
    def admin_password(self) -> Path:
        """Return the file with the generated password of user `admin`."""
        return self.root / "admin-password"

    def prepare(self) -> str:
        """Create the folder, for its owner only, and close what Zarkov made in an older one to other users.

        Return a sentence if they could read some of that until now, else an empty text. Raise `HomeError` if the folder
        cannot be created or written to, or has something else where a folder belongs.
        """
        try:
            self.root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self.run.mkdir(mode=PRIVATE, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
            for folder in (self.keys, self.log, self.mongo):
                if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
            closed, was_open = close_to_others(self.root), self.root.stat().st_mode & OF_OTHERS
        except OSError as error:
            raise HomeError(
                f"home {self.root} cannot be used ({error.filename or self.root}: {error.strerror}): it must be a "
                "folder that this user can write to; mend it, or choose another one with --set home=..."
            ) from None
        if not closed or not was_open:
            return ""
        return (
            f"other users of this machine could read {', '.join(closed[:10])} in home {self.root}, and no longer can: "
            "if you do not trust them, replace the passwords, tokens and keys"
        )

    def _make(self, folder: Path) -> None:
        """Make a folder below `root`, and `root` itself, which `parents` would make for everybody."""
        self.root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)

    def fault(self) -> str:
        """Return a sentence if other users of this machine can read what is in the folder; else an empty text."""
        try:
            if not (mode := stat.S_IMODE(self.root.stat().st_mode)) & OF_OTHERS:
                return ""
            found = sorted(path.name for path in self.root.iterdir() if path.lstat().st_mode & OF_OTHERS)
        except OSError:  # not made yet, or that of another user: `prepare` says so
            return ""
        if not found:
            return ""
        return (
            f"home {self.root} has mode {mode:04o}, and other users of this machine can use what is in it "
            f"({', '.join(found[:10])}): chmod -R go= {self.root}"
        )

    def mongo_uri(self) -> str:
        """Return the connection string of the running local mongod.

        Raise `HomeError` if none was started in this home folder.
        """
        try:
            return (self.mongo / "uri").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise HomeError(
                f"no mongod runs for the home folder {self.root}: set mongo_uri, or start one with "
                "`manage.py up` or `manage.py runmongo`"
            ) from None

    def secret(self, name: str) -> str:
        """Return the secret in `keys/<name>`, generated on first use; concurrent first uses get the same one."""
        path = self.keys / name
        with self.locked("keys"):
            if not path.exists():
                self.write(path, secrets.token_urlsafe(48))
            return path.read_text(encoding="utf-8")

    def write(self, path: Path, text: str) -> None:
        """Replace `path` atomically with a file that contains `text` and has mode 0600."""
        self._make(path.parent)
        replace_file(path, text, durable=False)

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock on `run/<name>.lock`, which the kernel releases in any case when the process ends.

        Raise `HomeError` with the holder's process id if `wait` is false and another process has it.
        """
        self._make(self.run)
        path = self.run / f"{name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                raise HomeError(
                    f"process {holder} holds {path}: stop it first, or use another home folder (--set home=...)"
                ) from None
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def addresses(self) -> dict[str, str]:
        """Return the real addresses by dotted key from `run/addresses.json`; empty if there is no valid file."""
        try:
            content = json.loads((self.run / "addresses.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {str(key): str(value) for key, value in content.items()}

    def address(self, key: str) -> str:
        """Return the real address of one socket. Raise `HomeError` if no process has recorded it."""
        try:
            return self.addresses()[key]
        except KeyError:
            raise HomeError(
                f"{key} has port 0 and no running process has recorded its address in "
                f"{self.run / 'addresses.json'}: start it, or give it a port"
            ) from None

    def record_addresses(self, addresses: Mapping[str, str]) -> None:
        """Add these addresses to `run/addresses.json` and keep those of other processes."""
        with self.locked("addresses"):
            merged = self.addresses() | dict(addresses)
            self.write(self.run / "addresses.json", json.dumps(merged, indent=1, sort_keys=True) + "\n")

    def remove_addresses(self, addresses: Mapping[str, str]) -> None:
        """Remove these addresses, except those that another process has recorded since."""
        with self.locked("addresses"):
            left = {key: value for key, value in self.addresses().items() if addresses.get(key) != value}
            self.write(self.run / "addresses.json", json.dumps(left, indent=1, sort_keys=True) + "\n")

    def clear_addresses(self) -> None:
        """Delete `run/addresses.json`. Call it only if nothing runs in this home folder."""
        with self.locked("addresses"):
            (self.run / "addresses.json").unlink(missing_ok=True)
