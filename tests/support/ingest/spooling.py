"""Send without a pause through a client with a spool, and record the ids that were accepted.

Arguments: address, folder of the spool, file for the accepted ids, file of phases.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from ingest.client import AcknowledgedClient, spool
from ingest.client.spool import Spool
from tests.support.ingest.killable import marked, open_shared

SPOOL_PHASES = ("creating a file", "spooling", "adopting", "draining", "acknowledging", "deleting a file")
EVENTS_AT_ONCE = 3


def main() -> None:
    address, folder, accepted, phases = sys.argv[1:]
    shared = open_shared(phases)

    def mark(phase: str, owner: type, name: str) -> None:
        setattr(owner, name, marked(shared, phase, getattr(owner, name), SPOOL_PHASES))

    for phase, name in zip(SPOOL_PHASES, ("_create", "append", "_adopt", "", "acknowledge", "_delete"), strict=True):
        if name:
            mark(phase, Spool, name)
    mark("draining", AcknowledgedClient, "_drain")
    spool.FILE_BYTES = 400  # small, so that files are created and deleted all the time
    client = AcknowledgedClient(address, spool=folder, connect_timeout_s=0.05, timeout_s=2, attempts=1)
    with Path(accepted).open("a", buffering=1) as file:
        while True:
            ids = [uuid.uuid4().hex for _ in range(EVENTS_AT_ONCE)]
            receipt = client.send([{"type": "x", "id": id_} for id_ in ids])
            assert receipt.accepted + receipt.spooled == EVENTS_AT_ONCE
            file.write(" ".join(ids) + "\n")


if __name__ == "__main__":
    main()
