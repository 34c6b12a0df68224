"""The local mongod: found, started, repaired and stopped; standalones are refused."""

from __future__ import annotations

import os
import signal
import socketserver
import stat
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from zarkov_site.config.home import HomeFolder
from zarkov_site.exceptions import HomeError, MongodError
from zarkov_site.processes import mongod as module
from zarkov_site.processes.mongod import LocalMongod, find_mongod, refuse_standalone


class HangUp(socketserver.BaseRequestHandler):
    """Close each connection; the server's port can be reused at once."""

    def setup(self) -> None:
        self.request.close()


socketserver.TCPServer.allow_reuse_address = True


def test_transactions_work_and_a_login_is_required(home: HomeFolder) -> None:
    mongod = LocalMongod(home)
    try:
        uri = mongod.start()
        assert home.mongo_uri() == uri
        with MongoClient(uri) as client, client.start_session() as session:
            with session.start_transaction():
                client.x.y.insert_one({"_id": 1}, session=session)
            assert client.x.y.count_documents({}) == 1
        port = urlsplit(uri).port
        with (
            MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as anonymous,
            pytest.raises(OperationFailure, match="authentication"),
        ):
            anonymous.x.y.find_one()
        secret = [home.mongo / name for name in ("uri", "password", "keyfile")]
        assert [stat.S_IMODE(path.stat().st_mode) for path in secret] == [0o600] * 3
        with pytest.raises(HomeError, match=f"process {os.getpid()} holds"):
            LocalMongod(home).start()
    finally:
        mongod.stop()
    mongod.stop()
    assert mongod.process.poll() == 0


def test_a_restart_after_a_kill_keeps_the_data_even_on_another_port(home: HomeFolder) -> None:
    first = LocalMongod(home)
    uri = first.start()
    with MongoClient(uri) as client:
        client.x.y.with_options(write_concern=None).insert_one({"_id": 1})
        client.admin.command("fsync")
    first.process.kill()
    first.process.wait()
    first.stop()
    with socketserver.TCPServer(("127.0.0.1", urlsplit(uri).port or 0), HangUp) as squatter:
        threading.Thread(target=squatter.serve_forever, daemon=True).start()
        second = LocalMongod(home)
        try:
            moved = second.start()
            assert urlsplit(moved).port != urlsplit(uri).port
            with MongoClient(moved) as client:
                assert client.x.y.find_one() == {"_id": 1}
        finally:
            second.stop()
            squatter.shutdown()


def test_a_clean_restart_keeps_its_port(home: HomeFolder) -> None:
    uris = []
    for _ in range(2):
        mongod = LocalMongod(home)
        uris.append(mongod.start())
        mongod.stop()
    assert uris[0] == uris[1]


def test_a_mongod_whose_parent_was_killed_is_ended_and_replaced(
    home: HomeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "request_end_with_parent", lambda: None)
    lost = LocalMongod(home)
    lost.start()
    lost._lock.close()  # what the kernel does with the lock of a killed process
    found = LocalMongod(home)
    try:
        found.start()
        assert lost.process.wait(60) is not None
        assert found.process.pid != lost.process.pid
    finally:
        found.stop()
        lost.stop()


def test_a_suspended_mongod_goes_on_and_ends_in_order(home: HomeFolder) -> None:
    mongod = LocalMongod(home)
    mongod.start()
    mongod.process.send_signal(signal.SIGSTOP)
    mongod.stop()
    assert mongod.process.poll() == 0


@pytest.mark.parametrize(("answers", "code"), [(False, -signal.SIGKILL), (True, 0)])
def test_only_a_mongod_that_does_not_answer_gets_little_time_to_end(
    home: HomeFolder, monkeypatch: pytest.MonkeyPatch, answers: bool, code: int
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.0)
    monkeypatch.setattr(module, "mongodb_answers", lambda address: answers)
    mongod = LocalMongod(home)
    mongod.start()
    mongod.stop(60.0)
    assert mongod.process.poll() == code


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_mongod_ends_when_its_parent_is_killed(home: HomeFolder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from zarkov_site.config.home import HomeFolder; "
        "from zarkov_site.processes.mongod import LocalMongod; "
        "m = LocalMongod(HomeFolder(Path(sys.argv[1]))); m.start(); "
        "print(m.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(home.root)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    child.wait(60)


def test_a_mongod_that_cannot_start_is_reported(home: HomeFolder) -> None:
    (home.mongo / "data").mkdir(parents=True)
    (home.mongo / "data" / "storage.bson").write_text("nonsense")
    mongod = LocalMongod(home)
    with pytest.raises(MongodError, match="mongod ended with code"):
        mongod.start()


def test_a_mongod_that_does_not_run_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "mongod"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() != broken
    monkeypatch.setattr(module, "WHEELS", ())
    with pytest.raises(MongodError, match=r"set mongo_uri.*exit status 1"):
        find_mongod()


def test_a_standalone_is_refused_with_the_two_commands_that_convert_it(home: HomeFolder) -> None:
    data, log = home.root / "data", home.root / "log"
    data.mkdir(parents=True)
    command = [find_mongod(), "--dbpath", data, "--port", "0", "--nounixsocket", "--bind_ip", "127.0.0.1"]
    mongod = LocalMongod(home)
    mongod._process = subprocess.Popen([*command, "--logpath", log], stdout=subprocess.DEVNULL)
    try:
        port = mongod._wait_for_port(log, 0)
        with (
            MongoClient(f"mongodb://127.0.0.1:{port}") as client,
            pytest.raises(MongodError, match=r"standalone.*mongod --replSet rs0.*rs\.initiate\(\)"),
        ):
            refuse_standalone(client)
    finally:
        mongod.stop()
