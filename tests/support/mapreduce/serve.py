"""Run one router or worker in its own process: `python -m tests.support.mapreduce.serve router|worker SETTINGS`.

SETTINGS is JSON; `addresses` names the file in which the router records its real addresses. A worker with `serves`
false cannot be reached by others that want its map output; with `fetches` false, it reaches no other.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from ingest.management.stop_signal import stop_on_signals
from mapreduce.router.router import Router
from mapreduce.settings import CurveKeys, EngineSettings
from mapreduce.wire import message
from mapreduce.worker.fetch import Fetcher
from mapreduce.worker.worker import Worker

NOWHERE = "tcp://127.0.0.1:1"  # nobody listens there


def settings_from(values: dict[str, Any]) -> EngineSettings:
    """Return engine settings from JSON values; the router's addresses come from the file `addresses`."""
    values = dict(values)
    addresses = Path(values.pop("addresses"))
    mongo = values.pop("mongo_uri")

    def read(key: str) -> str:
        return str(json.loads(addresses.read_text())[key])

    if values.get("curve"):
        values["curve"] = CurveKeys(**values["curve"])
    values["job_root"] = Path(values["job_root"])
    values["allowed_modules"] = tuple(values["allowed_modules"])
    return EngineSettings(
        req_uri=lambda: read("zmr.req_bind"),
        worker_uri=lambda: read("zmr.worker_bind"),
        mongo_address=lambda: mongo,
        **values,
    )


class UnreachableWorker(Worker):
    """A worker whose data socket is behind a firewall."""

    def _hello(self) -> None:
        self._data_uri = NOWHERE
        super()._hello()


def reach_nobody() -> None:
    """Cut this executor off from the data sockets of all workers."""
    connected = Fetcher._socket

    def nowhere(self: Fetcher, uri: str) -> Any:
        if uri not in self._sockets:
            connected(self, NOWHERE)
            self._sockets[uri] = self._sockets.pop(NOWHERE)
        return self._sockets[uri]

    Fetcher._socket = nowhere  # type: ignore[method-assign]


def main(role: str, text: str) -> int:
    """Run until a signal stops it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    message.PROTOCOL = int(os.environ.get("ZARKOV_TEST_PROTOCOL", message.PROTOCOL))
    values = json.loads(text)
    serves, fetches = values.pop("serves", True), values.pop("fetches", True)
    if not fetches:
        values["worker_setup"] = f"{__spec__.name}:reach_nobody" if __spec__ else None
    settings = settings_from(values)
    with stop_on_signals() as stop:
        if role == "router":
            router = Router(settings)
            found = router.start()
            target = Path(values["addresses"])
            temporary = target.with_suffix(".new")
            temporary.write_text(json.dumps(found))
            temporary.replace(target)
            router.run(stop)
            router.stop()
        else:
            worker = Worker(settings) if serves else UnreachableWorker(settings)
            try:
                worker.start()
                worker.run(stop)
            finally:
                worker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
