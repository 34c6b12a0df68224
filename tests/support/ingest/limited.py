"""An ingester as a process of its own, whose memory can be measured: `python -m tests.support.ingest.limited`.

It finds no MongoDB before `mongod_starts` is called.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ingest.server.ingester import Ingester
from ingest.settings import IngestSettings, JournalSettings
from tests.support.ingest.running import ANYWHERE
from tests.support.waiting import eventually

JOURNAL_BYTES = 2**20
_ADDRESSES, _STARTED = "addresses.json", "mongod-started"


class LimitedIngester:
    """The process, with a journal that is soon full. Use it as a context."""

    def __init__(self, uri: str, database: str, folder: Path) -> None:
        self._folder = folder
        self.process = subprocess.Popen([sys.executable, "-m", __spec__.name, uri, database, str(folder)])

    def address(self, receiver: str) -> str:
        file = self._folder / _ADDRESSES
        eventually(lambda: file.exists() or self._assert_running())
        return str(json.loads(file.read_text())[f"{receiver}_bind_address"])

    def mongod_starts(self) -> None:
        (self._folder / _STARTED).touch()

    def _assert_running(self) -> None:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}"

    def __enter__(self) -> LimitedIngester:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    uri, database, folder_name = sys.argv[1:]
    folder = Path(folder_name)

    def address() -> str:
        if not (folder / _STARTED).exists():
            raise ConnectionError("no mongod yet")
        return uri

    journal = JournalSettings(folder / "journal", segment_bytes=2**18, max_bytes=JOURNAL_BYTES)
    sockets: Any = [ANYWHERE] * 4
    ingester = Ingester(IngestSettings(*sockets, address, database, journal))
    ingester.start()
    ready = folder / _ADDRESSES
    ready.with_suffix(".new").write_text(json.dumps(ingester.addresses))
    ready.with_suffix(".new").replace(ready)
    ingester.run()


if __name__ == "__main__":
    main()
