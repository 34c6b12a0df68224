"""A mongod that tests halt and kill while an ingester writes to it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from tests.support.ingest.load import Victim
from tests.support.mongo import mongod_at_one_port, open_client
from zarkov_site.config.home import HomeFolder


class Mongod:
    """A mongod that can be halted, continued and killed."""

    def __init__(self, folder: Path) -> None:
        self._mongod = mongod_at_one_port(HomeFolder(folder))
        self.uri = self._mongod.start()
        self._client: MongoClient[dict[str, Any]] = open_client(self.uri)
        self.database: Database[dict[str, Any]] = self._client["hurt"]

    @property
    def admin(self) -> Database[dict[str, Any]]:
        return self._client["admin"]

    def halt(self) -> None:
        self._mongod.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._mongod.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with SIGKILL, and start a new one with the same data and address."""
        self._mongod.process.kill()
        self._mongod.process.wait()
        self._mongod.stop()
        assert self._mongod.start() == self.uri
        # Force a checkpoint, which mongod makes only once a minute: otherwise each start repeats all since the first.
        with open_client(self.uri) as client:
            client["admin"].command("fsync")

    def kill_in(self, phase: str, victim: Victim) -> set[str]:
        """Kill it while the ingester waits for it in `phase`; return all phases that the ingester waits in."""
        while True:
            self.halt()
            deadline = time.monotonic() + 0.1  # a phase that does not wait for mongod has ended by then
            while phase in victim.phases() and time.monotonic() < deadline:
                os.sched_yield()
            if phase in (found := victim.phases()):
                self.kill()
                return found & set(WAITING_FOR_MONGOD)
            self.resume()
            time.sleep(random.uniform(0.0, 0.01))  # the random moment is the input here

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.resume()
        self._client.close()
        self._mongod.stop()


WAITING_FOR_MONGOD = ("reserving", "inserting", "settling")
