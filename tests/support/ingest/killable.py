"""Run an ingester that marks, byte by byte in a shared file, which phases it is in.

The parent can write into byte TARGET a phase (from 1) in which the process must halt, and into byte AFTER whether to
halt at its end. Byte HALTED is set once it has.

Arguments: connection string, database, journal folder, file for the addresses, file of phases.
"""

from __future__ import annotations

import json
import mmap
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingest.file_replacement import replace_file
from ingest.journal.journal import Journal
from ingest.server.ingester import Ingester
from ingest.settings import IngestSettings, JournalSettings
from ingest.store.block_commit import BlockCommit
from ingest.store.store import Store
from ingest.wire import bson_reader

PHASES = ("receiving", "journalling", "reserving", "inserting", "settling", "removing segments")
TARGET, AFTER, HALTED = range(len(PHASES), len(PHASES) + 3)
SHARED_BYTES = len(PHASES) + 3
JOURNAL_BYTES = 4 * 2**20  # bound what accumulates while MongoDB is down, as in production
ANYWHERE = "tcp://127.0.0.1:0"


def marked(
    shared: mmap.mmap, phase: str, function: Callable[..., Any], phases: Sequence[str] = PHASES
) -> Callable[..., Any]:
    """Return `function` with the byte of `phase` raised while it runs; at most `len(PHASES)` phases."""
    index = phases.index(phase)

    def halt_if_requested(after: bool) -> None:
        if shared[TARGET] == index + 1 and shared[AFTER] == after:
            shared[HALTED] = 1
            threading.Event().wait()

    def run(*args: Any, **named: Any) -> Any:
        shared[index] += 1
        try:
            halt_if_requested(False)
            result = function(*args, **named)
            halt_if_requested(True)
        finally:
            shared[index] -= 1
        return result

    return run


def open_shared(phases: str) -> mmap.mmap:
    """Map the file of phases into memory."""
    with open(phases, "r+b") as file:  # noqa: PTH123 - mmap wants the file
        return mmap.mmap(file.fileno(), SHARED_BYTES)


def mark_phases(shared: mmap.mmap) -> None:
    reserve = Store.reserve

    def reserve_or_settle(self: Store, *args: Any, **named: Any) -> Any:
        settled = args[4] if len(args) > 4 else ()
        step = marked(shared, "reserving", reserve)
        return (marked(shared, "settling", step) if settled else step)(self, *args, **named)

    wire: Any = bson_reader
    wire.read_messages = marked(shared, "receiving", wire.read_messages)
    wire.read_message = marked(shared, "receiving", wire.read_message)
    Journal.append = marked(shared, "journalling", Journal.append)  # type: ignore[method-assign]
    Journal.sync = marked(shared, "journalling", Journal.sync)  # type: ignore[method-assign]
    Store.reserve = reserve_or_settle  # type: ignore[method-assign]
    Store.settle = marked(shared, "settling", Store.settle)  # type: ignore[method-assign]
    BlockCommit._transaction = marked(shared, "inserting", BlockCommit._transaction)  # type: ignore[method-assign]
    Journal.remove_settled = marked(shared, "removing segments", Journal.remove_settled)  # type: ignore[method-assign]


def main() -> None:
    uri, database, folder, addresses, phases = sys.argv[1:]
    mark_phases(open_shared(phases))
    sys.setswitchinterval(0.0005)
    ingester = Ingester(
        IngestSettings(
            ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE, lambda: uri, database,
            JournalSettings(Path(folder), segment_bytes=8192, max_bytes=JOURNAL_BYTES),
        )
    )  # fmt: skip
    ingester.start()
    replace_file(Path(addresses), json.dumps(ingester.addresses), durable=False)
    ingester.run()


if __name__ == "__main__":
    main()
