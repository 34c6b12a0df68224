"""The home folder: which file below it means what, and how processes tell each other their addresses."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zarkov_site.exceptions import HomeError


@dataclass(frozen=True)
class HomeFolder:
    """Paths below `root`. Files with secrets are made with mode 0600; writes replace a file in one step."""

    root: Path

    @property
    def mongo(self) -> Path:
        """Data, log and key of the local mongod, and `uri`."""
        return self.root / "mongo"

    @property
    def log(self) -> Path:
        """Log files of the processes that `up` starts."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """What only matters while something runs: addresses, locks."""
        return self.root / "run"

    @property
    def keys(self) -> Path:
        """Secrets: Django's key, CURVE keys."""
        return self.root / "keys"

    @property
    def client_keys(self) -> Path:
        """CURVE keys of the programs that the ingester lets in; `own.curve` is that of Zarkov's own processes."""
        return self.keys / "ingest-clients"

    @property
    def admin_password(self) -> Path:
        """The generated password of user `admin`."""
        return self.root / "admin-password"

    def prepare(self) -> None:
        """Make the folder, for its owner only. Raises `HomeError` when that, or writing there, is not possible."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.run.mkdir(exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable")
        except OSError as error:
            raise HomeError(
                f"home {self.root} cannot be used ({error.strerror}): choose another folder with --set home=..."
            ) from None

    def mongo_uri(self) -> str:
        """Connection string of the running local mongod.

        Raises `HomeError` when none was started in this home folder.
        """
        try:
            return (self.mongo / "uri").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise HomeError(
                f"no mongod runs for the home folder {self.root}: set mongo_uri, or start one with "
                "`manage.py up` or `manage.py runmongo`"
            ) from None

    def secret(self, name: str) -> str:
        """The secret kept in `keys/<name>`, made on first use; two first uses at once agree on one."""
        path = self.keys / name
        with self.locked("keys"):
            if not path.exists():
                self.write(path, secrets.token_urlsafe(48))
            return path.read_text(encoding="utf-8")

    def write(self, path: Path, text: str) -> None:
        """Replace `path` by a file with `text`, mode 0600, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock file `run/<name>.lock`; the kernel lets it go when the process ends, however it ends.

        Raises `HomeError` with the holder's process id when `wait` is false and another process has it.
        """
        self.run.mkdir(parents=True, exist_ok=True)
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
        """The real addresses by dotted key, as `run/addresses.json` has them."""
        try:
            content = json.loads((self.run / "addresses.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {str(key): str(value) for key, value in content.items()}

    def address(self, key: str) -> str:
        """The real address of one socket. Raises `HomeError` when no process has recorded it."""
        try:
            return self.addresses()[key]
        except KeyError:
            raise HomeError(
                f"{key} has port 0 and no running process has recorded its address in "
                f"{self.run / 'addresses.json'}: start it, or give it a port"
            ) from None

    def record_addresses(self, addresses: Mapping[str, str]) -> None:
        """Add these to `run/addresses.json`, beside what other processes recorded."""
        with self.locked("addresses"):
            merged = self.addresses() | dict(addresses)
            self.write(self.run / "addresses.json", json.dumps(merged, indent=1, sort_keys=True) + "\n")

    def forget_addresses(self, addresses: Mapping[str, str]) -> None:
        """Take out those that are still as this process recorded them."""
        with self.locked("addresses"):
            left = {key: value for key, value in self.addresses().items() if addresses.get(key) != value}
            self.write(self.run / "addresses.json", json.dumps(left, indent=1, sort_keys=True) + "\n")

    def forget_all_addresses(self) -> None:
        """Empty `run/addresses.json`: nothing runs in this home folder."""
        with self.locked("addresses"):
            (self.run / "addresses.json").unlink(missing_ok=True)
