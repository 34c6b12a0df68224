"""Which errors of task code may come from the host, so that the step is tried on another one."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import socket
import sqlite3
import subprocess
import types
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from mapreduce.resource_error import may_be_of_host


def raised(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - the test looks at all of them
        return error
    raise AssertionError("nothing was raised")


def import_it() -> None:
    import zarkov_test_missing  # noqa: F401


def wrap(act: Callable[[], Any]) -> None:
    """Raise another error while an error is handled, as many libraries do."""
    try:
        act()
    except OSError:
        raise RuntimeError("lookup failed")  # noqa: B904 - so do libraries


def hide(act: Callable[[], Any]) -> None:
    """Raise an error that does not come from the first one, as it says."""
    try:
        act()
    except OSError:
        raise RuntimeError("bad value") from None


def grouped() -> None:
    raise ExceptionGroup("two", [ValueError("x"), PermissionError("no")])


def throw(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


NO_FILE = Path("/nonexistent/zarkov")
OF_HOST: dict[str, Callable[[], Any]] = {
    "a missing module": import_it,
    "a missing name of a module": lambda: exec("from json import zarkov_missing"),
    "a module cut short": lambda: compile("def f(", "geoip.py", "exec"),
    "another version of a module": lambda: types.ModuleType("geoip").lookup,
    "a missing file": NO_FILE.read_bytes,
    "no permission": throw(PermissionError(13, "Permission denied")),
    "no space": throw(OSError(28, "No space left on device")),
    "a missing program": lambda: subprocess.run([NO_FILE], check=True),
    "a program that fails": lambda: subprocess.run(["false"], check=True),
    "no memory": throw(MemoryError()),
    "an unknown host": throw(socket.gaierror(-2, "Name or service not known")),
    "a refused connection": throw(ConnectionRefusedError(111, "Connection refused")),
    "a time-out": throw(TimeoutError("timed out")),
    "a database that cannot be opened": lambda: sqlite3.connect(NO_FILE).close(),
    "a MongoDB that does not answer": throw(AutoReconnect("connection closed")),
    "an unknown zone": lambda: zoneinfo.ZoneInfo("Mars/Olympus"),
    "a missing environment variable": lambda: os.environ["ZARKOV_TEST_MISSING"],
    "an unknown user": lambda: pwd.getpwnam("zarkov-nobody"),
    "an unknown group": lambda: grp.getgrgid(2**31 - 7),
    "an unknown encoding": lambda: b"x".decode("zarkov-437"),
    "an unknown handler of errors": lambda: b"\xff".decode(errors="zarkov"),
    "an unknown hash": lambda: hashlib.new("zarkov-160"),
    "no threads": throw(RuntimeError("can't start new thread")),
    "a wrapped one": lambda: wrap(NO_FILE.read_bytes),
    "one in a group": grouped,
}
OF_TASK: dict[str, Callable[[], Any]] = {
    "a missing key": lambda: {}["x"],
    "a key like that of a user": lambda: {}["getpwnam"],
    "a bad value": lambda: int("x"),
    "a bad text": lambda: b"\xff".decode(),
    "an index beyond the end": lambda: [][0],
    "a missing attribute": lambda: (1).missing,  # type: ignore[attr-defined]
    "an exit": throw(SystemExit(3)),
    "an interrupt": throw(KeyboardInterrupt()),
    "too deep a recursion": throw(RecursionError("maximum recursion depth exceeded")),
    "one that replaces another": lambda: hide(NO_FILE.read_bytes),
    "a runtime error": throw(RuntimeError("x")),
}


@pytest.mark.parametrize("act", OF_HOST.values(), ids=OF_HOST)
def test_an_error_that_another_host_may_not_have_may_be_of_the_host(act: Callable[[], Any]) -> None:
    assert may_be_of_host(raised(act))


@pytest.mark.parametrize("act", OF_TASK.values(), ids=OF_TASK)
def test_an_error_that_the_same_code_has_everywhere_is_of_the_task(act: Callable[[], Any]) -> None:
    assert not may_be_of_host(raised(act))


def test_errors_that_refer_to_each_other_are_read_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert not may_be_of_host(first)
