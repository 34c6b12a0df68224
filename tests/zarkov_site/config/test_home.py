"""The home folder: secrets, locks and addresses."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

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
