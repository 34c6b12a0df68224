"""Wait for SQLite's lock in Python: SQLite's own waiting holds up all greenlets of a process.

One of them may have the lock, within a transaction in which it waits for something else, and could not go on. Django
finds the class here by the name of the module.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from django.db.backends.sqlite3 import base

PAUSE_S = 0.005
_BUSY = 5  # SQLITE_BUSY in sqlite.org/rescode.html; its extended codes have the same last byte


class _Cursor(base.SQLiteCursorWrapper):
    """A cursor that repeats a statement while the database is locked, for at most `within_s`."""

    within_s: Callable[[], float]

    def execute(self, query: str, params: Any = None) -> Any:
        return self._repeated(lambda: super(_Cursor, self).execute(query, params))

    def executemany(self, query: str, param_list: Any) -> Any:
        params = list(param_list)
        return self._repeated(lambda: super(_Cursor, self).executemany(query, params))

    def _repeated(self, act: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self.within_s()
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != _BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(PAUSE_S)  # other greenlets, or threads, run meanwhile


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that waits for locks for as long as its option `timeout` says, in seconds, and lets others run.

    Within a transaction nothing is waited for: one that writes has the lock from its start (`transaction_mode`).
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=_Cursor)
        cursor.within_s = self._longest_wait_s
        return cursor

    def _longest_wait_s(self) -> float:
        return 0.0 if self.in_atomic_block else float(self.settings_dict["OPTIONS"].get("timeout", 5.0))
