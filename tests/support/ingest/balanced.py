"""Run `manage.py runingest --processes N` for tests, send to it, and count what was stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import bson
import psutil
import zmq
from pymongo.database import Database

from ingest.client.health_probe import receiver_fault
from ingest.journal.journal import journal_folders
from ingest.settings import IngestSettings, JournalSettings
from tests.support.ingest.running import ANYWHERE, RunningIngester
from tests.support.ports import reserved_addresses
from tests.support.waiting import WITHIN_S, eventually

RECEIVERS = ("BSON", "JSON", "ACK", "PUBLISH")


class Balanced:
    """`manage.py runingest --processes COUNT` in its own home folder."""

    def __init__(self, uri: str, database: str, home: Path, count: int = 2) -> None:
        self.journals = home / "journal"
        self._settings = IngestSettings(
            **{f"{receiver.lower()}_bind_address": ANYWHERE for receiver in RECEIVERS},
            mongo_address=lambda: uri, mongo_database=database, journal=JournalSettings(self.journals),
        )  # fmt: skip
        addresses = zip(RECEIVERS, reserved_addresses(len(RECEIVERS)), strict=True)  # kept over restarts
        environment = os.environ | {f"ZARKOV_{receiver}_BIND_ADDRESS": address for receiver, address in addresses}
        environment |= {"ZARKOV_HOME": str(home), "ZARKOV_MONGO_URI": uri, "ZARKOV_MONGO_DATABASE": database}
        self.environment = environment
        self.command = [sys.executable, "manage.py", "runingest", "--processes", str(count)]
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        recorded = home / "run" / "addresses.json"
        eventually(lambda: recorded.exists() or self.process.poll() is not None)
        self.addresses: dict[str, str] = json.loads(recorded.read_text())
        self.run = home / "run"
        eventually(lambda: len(journal_folders(self.journals)) == count, what="a journal each")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WITHIN_S) == 0

    def start_again(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        assert receiver_fault(self.addresses["ack_bind_address"], None, WITHIN_S) == ""

    def settle(self) -> None:
        """Commit what waits in journals, as the next start does; a stop has limited time for it."""
        if folders := journal_folders(self.journals):
            next_start = RunningIngester(self._settings)
            try:
                eventually(lambda: not any(folder.exists() for folder in folders), what="what was left is committed")
            finally:
                next_start.stop()


def push(address: str, count: int, kind: str) -> None:
    context: zmq.Context[Any] = zmq.Context()
    with context.socket(zmq.PUSH) as socket:
        socket.connect(address)
        for n in range(count):
            socket.send(bson.encode({"type": kind, "context": {"n": n}}))
        socket.close(linger=60_000)
    context.term()


def all_pushed(balanced: Balanced, database: Database[Any]) -> list[int]:
    """Return the numbers of the pushed events that are stored once nothing waits."""
    balanced.settle()
    return sorted(e["context"]["n"] for e in database["event"].find({"type": "pushed"}))
