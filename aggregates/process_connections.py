"""Hold a Django process's connections to MongoDB and the engine, opened on first use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pymongo
from django.conf import settings
from pymongo import MongoClient
from pymongo.database import Database

from aggregates.exceptions import RouterAbsentError
from aggregates.run.context import RunContext
from aggregates.task_modules import task_modules
from ingest.wire.codec import CLIENT_OPTIONS

if TYPE_CHECKING:
    from ingest.store.store import Store
    from mapreduce.engine import Engine

PING_S = 3.0
CLOSE_WITHIN_S = 1.0  # even if MongoDB hangs


def _is_defined(name: str) -> bool:
    from aggregates.models import AggDef

    return AggDef.objects.filter(name=name).exists()


class ProcessConnections:
    """Database, event store, engine and `RunContext` of one process. Thread-safe.

    The address of MongoDB is looked up on each access, and everything is reopened if it changed: a local mongod can
    restart on another port.
    """

    def __init__(self, config: Any, modules: Callable[[], tuple[str, ...]] = task_modules) -> None:
        self._config = config
        self._modules = modules
        self._lock = threading.RLock()
        self._address = ""
        self._client: MongoClient[dict[str, Any]] | None = None
        self._engine: Engine | None = None
        self._store: Store | None = None
        self._run_context: RunContext | None = None

    @property
    def database(self) -> Database[dict[str, Any]]:
        """Return the event database; its datetimes are timezone-aware."""
        with self._lock:
            address = self._config.mongo_address()
            if self._client is None or address != self._address:
                self.close()
                self._client = MongoClient(address, appname="zarkov-aggregates", **CLIENT_OPTIONS)
                self._address = address
            return self._client[self._config.mongo_database]

    @property
    def engine(self) -> Engine:
        """Return the map-reduce engine, which connects on first use."""
        from mapreduce.engine import open_engine

        with self._lock:
            if self._engine is None:
                self._engine = open_engine(self._config.engine_settings(self._modules()))
            return self._engine

    @property
    def run_context(self) -> RunContext:
        from ingest.store.store import connect

        with self._lock:
            database = self.database
            if self._run_context is None:
                self._store = connect(self._config.mongo_address, self._config.mongo_database)
                self._run_context = RunContext(
                    database=database,
                    store=self._store,
                    engine=self.engine,
                    modules=self._modules(),
                    durable_jobs=self._config.zmr.engine == "zmq",
                    is_defined=_is_defined,
                )
            return self._run_context

    def require_engine(self, timeout_s: float = PING_S) -> None:
        """Raise `RouterAbsentError`, naming `req_uri` and its address, if no router answers within `timeout_s`."""
        if self._config.zmr.engine == "inline":
            return
        try:
            address = self._config.connect_address("zmr.req_uri")
            answered = self.engine.ping(timeout_s)
        except Exception as error:
            if not getattr(error, "code", ""):
                raise
            raise RouterAbsentError(f"no router is known for zmr.req_uri: {error}") from error
        if not answered:
            raise RouterAbsentError(
                f"no router answers at zmr.req_uri = {address}: start one with `manage.py up` or "
                "`manage.py runrouter`, or correct req_uri"
            )

    def close(self) -> None:
        """Close what is open; the next use opens it again."""
        with self._lock, pymongo.timeout(CLOSE_WITHIN_S):
            if self._engine is not None:
                self._engine.close()
            if self._store is not None:
                self._store.connection.close()
            if self._client is not None:
                self._client.close()
            self._client = self._engine = self._run_context = self._store = None


_held: dict[int, ProcessConnections] = {}


def process_connections() -> ProcessConnections:
    """Return the resources of this process; a fork gets its own."""
    pid = os.getpid()
    if pid not in _held:
        _held.clear()  # a fork must not close its parent's sockets
        _held[pid] = ProcessConnections(settings.ZARKOV)
    return _held[pid]


def reset() -> None:
    """Close and discard this process's resources, as tests do after changing the configuration."""
    held = _held.pop(os.getpid(), None)
    if held is not None:
        held.close()
