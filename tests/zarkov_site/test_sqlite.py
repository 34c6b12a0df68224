"""Whoever waits for SQLite's lock lets other threads and greenlets of the process run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import OperationalError, connections

from zarkov_site.sqlite import base
from zarkov_site.sqlite.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that has the lock of a database with an empty table `t`."""
    with closing(sqlite3.connect(tmp_path / "x.sqlite3", isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (x INTEGER)")
        made.execute("BEGIN IMMEDIATE")
        yield made


@pytest.fixture
def ours(tmp_path: Path, other: sqlite3.Connection) -> Iterator[DatabaseWrapper]:
    """Yield the site's kind of connection to it."""
    assert isinstance(connections["default"], DatabaseWrapper)
    wrapper = DatabaseWrapper({**connections["default"].settings_dict, "NAME": str(tmp_path / "x.sqlite3")}, "other")
    yield wrapper
    wrapper.close()


@pytest.mark.parametrize("statement", ["INSERT INTO t VALUES (1)", "BEGIN IMMEDIATE"])
def test_a_writer_waits_for_the_lock_and_others_run_meanwhile(
    ours: DatabaseWrapper, other: sqlite3.Connection, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def others_run(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr(base.time, "sleep", others_run)
    ours.cursor().execute(statement)
    assert len(pauses) == 3


def test_a_writer_gives_up_after_the_time_of_the_settings(ours: DatabaseWrapper, other: sqlite3.Connection) -> None:
    ours.settings_dict["OPTIONS"] = {**ours.settings_dict["OPTIONS"], "timeout": 0.1}
    with pytest.raises(OperationalError, match="database is locked"):
        ours.cursor().executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
    other.execute("COMMIT")
    ours.cursor().executemany("INSERT INTO t VALUES (%s)", iter([(1,), (2,)]))
    assert ours.cursor().execute("SELECT count(*) FROM t").fetchone() == (2,)
