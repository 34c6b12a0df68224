"""A full disk: a small file system in the ingester's own mount namespace (unshare(1))."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ingest.client import AcknowledgedClient
from ingest.exceptions import BusyError, DeliveryError
from tests.support.ingest.load import Victim
from tests.support.ingest.mongod import Mongod
from tests.support.waiting import eventually

DISK_BYTES = 1_000_000
_MOUNT = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$0" && exec "$@"'


def test_a_full_disk_pauses_reading_and_every_accepted_event_arrives_once_there_is_space(
    mongod: Mongod, tmp_path: Path
) -> None:
    disk = tmp_path / "journal"
    disk.mkdir()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    victim = Victim(mongod.uri, "hurt", tmp_path, inside=[*unshare, "sh", "-c", _MOUNT, str(disk)])
    accepted: set[str] = set()
    try:
        with AcknowledgedClient(victim.addresses["ack_bind_address"], timeout_s=2.0, attempts=1) as client:

            def send() -> bool:
                """Send one event of 10 kB; return False if it was not accepted."""
                id_ = str(len(accepted))
                try:
                    assert client.send([{"type": "x", "id": id_, "extra": "x" * 10_000}]).accepted == 1
                except DeliveryError:
                    return False
                accepted.add(id_)
                return True

            def fill() -> None:
                while len(accepted) * 10_000 < 2 * DISK_BYTES:
                    if not send():  # it waits for space, and the next one is answered "busy"
                        try:
                            client.send([{"type": "probe"}])
                        except BusyError:
                            raise
                        except DeliveryError:
                            continue  # a busy machine did not answer in time

            eventually(send)
            eventually(lambda: mongod.database["event"].find_one())
            mongod.halt()
            with pytest.raises(BusyError, match="full"):
                fill()
            assert 20 < len(accepted) < DISK_BYTES / 10_000
            mongod.resume()
            eventually(send, what="events are accepted again")
        eventually(lambda: accepted <= {e["id"] for e in mongod.database["event"].find({"type": "x"}, {"id": 1})})
        assert mongod.database["event"].count_documents({"type": "x"}) == len(accepted)
    finally:
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
