"""The home folder: secrets, locks and addresses."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingest.journal.journal import Journal
from ingest.settings import JournalSettings
from tests.support import command
from zarkov_site.config.file_access import close_to_others
from zarkov_site.config.home import HomeFolder
from zarkov_site.exceptions import HomeError


def test_a_secret_is_generated_once_and_private(home: HomeFolder) -> None:
    first = home.secret("django")
    assert len(first) > 40
    assert home.secret("django") == first
    assert home.secret("other") != first
    assert stat.S_IMODE((home.keys / "django").stat().st_mode) == 0o600


def test_a_missing_mongod_is_reported_with_a_remedy(home: HomeFolder) -> None:
    with pytest.raises(HomeError, match=r"set mongo_uri, or start one with `manage.py up`"):
        home.mongo_uri()


def test_several_processes_can_record_addresses(home: HomeFolder) -> None:
    home.record_addresses({"a": "tcp://127.0.0.1:1"})
    home.record_addresses({"b": "tcp://127.0.0.1:2"})
    home.remove_addresses({"a": "tcp://127.0.0.1:1", "b": "tcp://127.0.0.1:99"})
    assert home.addresses() == {"b": "tcp://127.0.0.1:2"}
    assert home.address("b") == "tcp://127.0.0.1:2"
    with pytest.raises(HomeError, match="a has port 0 and no running process"):
        home.address("a")
    home.clear_addresses()
    assert home.addresses() == {}


def test_a_lock_is_held_by_one_process_and_released_when_it_dies(home: HomeFolder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from zarkov_site.config.home import HomeFolder\n"
        "with HomeFolder(Path(sys.argv[1])).locked('up'): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(home.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(HomeError, match=f"process {holder.pid} holds"), home.locked("up", wait=False):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with home.locked("up", wait=False):
        pass


def test_what_is_made_in_a_home_folder_that_others_can_enter_is_private(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    made = HomeFolder(root)
    made.prepare()
    made.secret("django")
    made.record_addresses({"a": "tcp://127.0.0.1:1"})
    Journal.create(JournalSettings(root / "journal")).release()
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in root.iterdir()} == {
        "run": "0o0", "keys": "0o0", "journal": "0o0",
    }  # fmt: skip
    assert made.fault() == ""
    fresh = HomeFolder(tmp_path / "fresh" / "home")
    fresh.secret("django")  # before anything has called `prepare`
    assert fresh.root.stat().st_mode & 0o077 == 0


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_a_home_folder_of_an_older_version_is_closed_to_others_with_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "open"
    secrets = ("zarkov.sqlite3", "zarkov.sqlite3-wal", "zarkov.sqlite3-shm", "zarkov.sqlite3-journal", "admin-password")
    below = ("keys/django", "keys/ingest.curve", "keys/ingest-clients/own.curve", "mongo/uri", "mongo/keyfile")
    folders = ("keys", "keys/ingest-clients", "mongo", "run", "log", "journal", "zmr")
    for name in folders:
        (root / name).mkdir(parents=True)
    for name in (*secrets, *below, "log/web.log", "mine.txt"):
        (root / name).touch()
    for path in (*root.rglob("*"), root):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (root / "zarkov.sqlite3").unlink()
    with sqlite3.connect(root / "zarkov.sqlite3") as database:
        database.execute("create table t (x)")
    database.close()
    (root / "zarkov.sqlite3").chmod(0o664)
    shown = command.manage("checkconfig", environ={"ZARKOV_HOME": str(root)}).stderr
    assert "could read keys, keys/ingest-clients, mongo, journal, " in shown and "replace the passwords" in shown
    left = [name for name in (*secrets, *below) if (root / name).exists()]
    assert {name: mode(root / name) for name in left} == dict.fromkeys(left, "0600")
    assert {name: mode(root / name) for name in folders} == dict.fromkeys(folders, "0700")
    assert (mode(root), mode(root / "mine.txt")) == ("0755", "0644")
    again = command.manage("checkconfig", environ={"ZARKOV_HOME": str(root)}).stderr
    assert "could read" not in again and "(mine.txt)" in again


def test_what_nobody_else_could_reach_is_closed_without_a_warning(home: HomeFolder) -> None:
    home.secret("django")
    home.root.chmod(0o700)
    (home.keys / "django").chmod(0o644)
    assert home.prepare() == ""
    assert mode(home.keys / "django") == "0600"


def test_links_and_what_belongs_to_others_are_left_alone(
    home: HomeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.prepare()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    for path in (elsewhere, elsewhere / "file"):
        path.chmod(0o755)
    (home.root / "log").symlink_to(elsewhere)
    (home.root / "admin-password").symlink_to(elsewhere / "file")
    home.secret("django")
    (home.keys / "django").chmod(0o644)
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    assert close_to_others(home.root) == []
    monkeypatch.undo()
    assert close_to_others(home.root) == ["keys/django"]
    assert (mode(elsewhere), mode(elsewhere / "file")) == ("0755", "0755")


def test_a_folder_in_which_others_have_files_stays_open_to_them(
    home: HomeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.prepare()
    home.secret("django")
    home.log.mkdir()
    home.log.chmod(0o755)
    theirs = SimpleNamespace(stat=lambda *, follow_symlinks: SimpleNamespace(st_uid=12_345))
    scan = os.scandir
    monkeypatch.setattr("os.scandir", lambda at: contextlib.nullcontext([theirs]) if isinstance(at, int) else scan(at))
    assert close_to_others(home.root) == []
    monkeypatch.undo()
    assert close_to_others(home.root) == ["log"]


def test_folders_that_only_have_the_same_names_stay_as_they_are(home: HomeFolder) -> None:
    home.log.mkdir(parents=True)
    home.log.chmod(0o755)
    assert close_to_others(home.root) == []
    assert mode(home.log) == "0755"


def test_what_others_can_read_is_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir()
    (root / "backup.sqlite3").touch()
    (root / "backup.sqlite3").chmod(0o644)
    (root / "keys").mkdir(mode=0o700)
    root.chmod(0o755)
    shown = command.manage("checkconfig", environ={"ZARKOV_HOME": str(root)}).stderr
    assert f"warning: home {root} has mode 0755" in shown and "(backup.sqlite3)" in shown
    root.chmod(0o700)
    assert HomeFolder(root).fault() == HomeFolder(root / "none").fault() == ""
