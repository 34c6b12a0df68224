"""Fixtures for all tests: one real mongod per test process, and a database and home folder per test."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.support.leftovers import guard
from tests.support.memory_folder import memory_folder

# Before Django reads its settings: tests never touch the home folder, ports or configuration of a checkout in use.
_HOME = memory_folder("zarkov-test-")
for _name in [name for name in os.environ if name.startswith("ZARKOV_") and not name.startswith("ZARKOV_TEST_")]:
    del os.environ[_name]
os.environ["ZARKOV_HOME"] = str(_HOME)
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # playwright's sync interface runs an event loop
os.environ.pop("DATABASE_URL", None)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile all modules again
for _key in ("BSON_BIND_ADDRESS", "JSON_BIND_ADDRESS", "ACK_BIND_ADDRESS", "PUBLISH_BIND_ADDRESS"):
    os.environ[f"ZARKOV_{_key}"] = "tcp://127.0.0.1:0"
for _key in ("REQ_BIND", "WORKER_BIND"):
    os.environ[f"ZARKOV_ZMR__{_key}"] = "tcp://127.0.0.1:0"
os.environ["ZARKOV_METRICS__PORT"] = "0"
os.environ["ZARKOV_METRICS__OWN_INTERVAL_S"] = "0"
guard(_HOME)

from django.conf import settings as django_settings  # noqa: E402
from django.db import connections  # noqa: E402
from hypothesis import HealthCheck  # noqa: E402
from hypothesis import settings as hypothesis_settings  # noqa: E402
from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402
from pymongo import MongoClient  # noqa: E402
from pymongo.database import Database  # noqa: E402
from xdist.scheduler.loadscope import LoadScopeScheduling  # noqa: E402

from tests.support import chromium  # noqa: E402
from tests.support.mongo import open_client  # noqa: E402
from tests.support.web.nginx import SYSTEM_PATH  # noqa: E402
from zarkov_site.config.home import HomeFolder  # noqa: E402
from zarkov_site.processes.mongod import LocalMongod  # noqa: E402

# Slow generation of examples only means that the machine is busy.
hypothesis_settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("busy")

# Tests with this marker need a program that `make test` cannot install; the summary reports what was left out.
_NEEDED = {
    "browser": (lambda: chromium.executable() is not None, "no chromium on PATH (apt install chromium)"),
    "carbon": (
        lambda: shutil.which("carbon-cache") is not None,
        "no carbon-cache on PATH (apt install graphite-carbon)",
    ),
    "nginx": (
        lambda: shutil.which("nginx", path=SYSTEM_PATH) is not None and shutil.which("openssl") is not None,
        "no nginx or no openssl (apt install nginx-light openssl)",
    ),
}
JOURNAL_COMMIT_INTERVAL_MS = 5  # of 1 to 500; the default of 100 holds where tests start a system of their own
_LEFT_OUT = pytest.StashKey[dict[str, int]]()
# Modules and folders that one process runs, because they share a fixture of the session that takes long to start.
_TOGETHER = {
    "server": (
        "tests/aggregates/web/browser/", "tests/aggregates/web/live/test_stream.py",
        "tests/aggregates/web/api/test_events.py", "tests/aggregates/web/api/test_refusals.py",
        "tests/aggregates/web/api/test_many_events.py",
        "tests/aggregates/web/test_health.py", "tests/aggregates/web/test_clients_doc.py",
    ),
    "system": ("tests/zarkov_site/processes/test_launch.py", "tests/zarkov_site/test_browser.py"),
}  # fmt: skip


class _Scheduling(LoadScopeScheduling):
    """Give each process a module at a time, or modules that belong together."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return next((name for name, paths in _TOGETHER.items() if module.startswith(paths)), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Use our own scheduling for `--dist loadscope`."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_configure() -> None:
    """Let tests in this process log in quickly: the hash of a password is slow on purpose."""
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_xdist_auto_num_workers() -> int:
    """Start three processes for two cores: a third of a test's time is waiting for other processes."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that only `make test-long` runs or whose program is missing; the summary reports the latter.

    Modules that take longest start first, so that no process is left with one of them at the end.
    """
    long = os.environ.get("ZARKOV_TEST_LONG") is not None
    missing = {marker for marker, (there, _) in _NEEDED.items() if not there()}
    counts = config.stash.setdefault(_LEFT_OUT, {})
    kept, left_out = [], []
    for item in items:
        lacking = {mark.name for mark in item.iter_markers()} & missing
        other_target = (item.get_closest_marker("long") is not None) != long
        (left_out if lacking or other_target else kept).append(item)
        for marker in lacking if not other_target else ():
            counts[marker] = counts.get(marker, 0) + 1
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("early") is None)
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for marker, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"{count} {marker} tests were left out: {_NEEDED[marker][1]}")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Put Django's tables in a file, as in production: threads that share an in-memory database block each other."""
    connections["default"].settings_dict["TEST"]["NAME"] = str(_HOME / "test.sqlite3")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield Chromium; playwright allows one per process."""
    expect.set_options(timeout=chromium.WITHIN_MS)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.ARGUMENTS)
        yield opened
        opened.close()


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def mongo_uri() -> Iterator[str]:
    """Yield the connection string of this test process's mongod, a one-member replica set.

    It flushes its journal often: to drop a database waits for that, after almost every test.
    """
    mongod = LocalMongod(HomeFolder(_HOME))
    try:
        uri = mongod.start()
        with open_client(uri) as client:
            client.admin.command("setParameter", 1, journalCommitInterval=JOURNAL_COMMIT_INTERVAL_MS)
        yield uri
    finally:
        mongod.stop()


@pytest.fixture(scope="session")
def mongo_client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """Yield a client that reads and writes as the product does, to check results."""
    with open_client(mongo_uri) as client:
        yield client


@pytest.fixture
def database(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """Yield an empty database for this test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield mongo_client[name]
    mongo_client.drop_database(name)


@pytest.fixture
def publisher() -> Iterator[zmq.Socket[bytes]]:
    """Yield a socket that publishes notices, or what is none."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind("tcp://127.0.0.1:*")
        yield socket


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C work here and in children, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(tmp_path: Path) -> HomeFolder:
    """Return a home folder for this test."""
    return HomeFolder(tmp_path / "home")
