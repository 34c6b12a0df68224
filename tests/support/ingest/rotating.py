"""Run `rotate` in a process that marks which step it is in.

Arguments: connection string, database, folder of the dumps, file of phases.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pymongo.collection import Collection

from ingest.store import rotation
from ingest.store.store import connect
from tests.support.ingest.killable import marked, open_shared

ROTATION_PHASES = ("making a partition", "naming", "dumping", "verifying", "dropping", "removing")
_STEPS = ("create_partition", "create_view", "dump", "verify", "drop")


def main() -> None:
    uri, database, folder, phases = sys.argv[1:]
    shared = open_shared(phases)
    module: Any = rotation
    for phase, name in zip(ROTATION_PHASES, _STEPS, strict=False):
        setattr(module, name, marked(shared, phase, getattr(module, name), ROTATION_PHASES))
    Collection.drop = marked(shared, "removing", Collection.drop, ROTATION_PHASES)  # type: ignore[method-assign]
    store = connect(uri, database)
    rotation.rotate(store, Path(folder), keep=1)
    store.connection.close()


if __name__ == "__main__":
    main()
