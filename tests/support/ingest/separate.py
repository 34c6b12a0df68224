"""Run an ordinary ingester in a process of its own, whose memory can be measured.

As a program, its arguments are: connection string, database, journal folder, file for the addresses.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import gevent

from ingest.file_replacement import replace_file
from ingest.server import ingester as server
from ingest.settings import IngestSettings, JournalSettings
from tests.support.ingest.running import ANYWHERE
from tests.support.waiting import WITHIN_S, eventually


class SeparateIngester:
    """An ingester in its own process. Call `stop` at the end."""

    def __init__(self, uri: str, database: str, folder: Path) -> None:
        ready = folder / "addresses.json"
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, uri, database, str(folder / "journal"), str(ready)]
        )
        eventually(lambda: ready.exists() or self.process.poll() is not None)
        self._addresses = json.loads(ready.read_text())

    def address(self, receiver: str) -> str:
        found: str = self._addresses[f"{receiver}_bind_address"]
        return found

    def forget_peak(self) -> float:
        """Let `peak_mib` measure from now on; return how much memory the process has, in MiB."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # see proc(5)
        return self.peak_mib()

    def peak_mib(self) -> float:
        """Return the most memory that the process has had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    uri, database, folder, addresses = sys.argv[1:]
    server.DRAIN_WITHIN_S = WITHIN_S / 3  # commit everything at the end, so that no transaction is left to MongoDB
    ingester = server.Ingester(
        IngestSettings(ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE, lambda: uri, database, JournalSettings(Path(folder)))
    )
    ingester.start()
    gevent.signal_handler(signal.SIGTERM, ingester.request_stop)
    replace_file(Path(addresses), json.dumps(ingester.addresses), durable=False)
    ingester.run()


if __name__ == "__main__":
    main()
