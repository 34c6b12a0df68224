"""A good producer and a good reader. They measure what they wait for, in seconds."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ingest.client import AcknowledgedClient
from ingest.exceptions import BusyError

AGGREGATE = "good_events"
DEFINITION = f"""
aggregates:
  {AGGREGATE}:
    task_name: tests.support.aggregates.tasks.CountByDay
    filter: {{type: good}}
    realtime: true
"""
ANSWER_WITHIN_S = 60.0
_BUSY_PAUSE_S = 0.02


class Repeated:
    """Repeat an action in a thread with pauses, and keep how long each took. What it raises is kept as `failure`."""

    def __init__(self, action: Callable[[], object], pause_s: float) -> None:
        self.took_s: list[float] = []
        self.failure: BaseException | None = None
        self._action = action
        self._pause_s = pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            began = time.monotonic()
            try:
                self._action()
            except BaseException as error:  # noqa: BLE001 - raised by the test
                self.failure = error
                return
            self.took_s.append(time.monotonic() - began)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def p95_s(self) -> float:
        return statistics.quantiles(self.took_s, n=20)[-1]


class Producer:
    """Send numbered events, each with an id, and count those that are acknowledged."""

    def __init__(self, address: str) -> None:
        self.acknowledged = 0
        self._client = AcknowledgedClient(address)

    def send(self) -> None:
        """Send one event; return once it is acknowledged. A busy ingester is asked again, as its answer says."""
        number = self.acknowledged
        event = {
            "type": "good",
            "id": f"good:{number}",
            "timestamp": datetime.now(UTC),
            "context": {"project": "abuse"},
            "extra": {"n": number},
        }
        while True:
            try:
                receipt = self._client.send([event])
            except BusyError:
                time.sleep(_BUSY_PAUSE_S)
                continue
            assert not receipt.rejected, receipt
            self.acknowledged = number + 1
            return

    def close(self) -> None:
        self._client.close()


class Reader:
    """Read the number of good events from the web server."""

    def __init__(self, web: str, producer: Producer) -> None:
        self._url = urlsplit(web)
        self._producer = producer

    def read(self) -> int:
        """Return the sum of the aggregate."""
        found = json.loads(self.get(f"api/v1/series/{AGGREGATE}/"))
        return sum(point[1] for series in found["series"] for point in series["data"])

    def health(self) -> None:
        """Ask whether the web server is alive."""
        self.get("healthz")

    def wait_until_current(self) -> None:
        """Return once the aggregate counts every event that is acknowledged now."""
        wanted = self._producer.acknowledged
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while (found := self.read()) < wanted:
            assert time.monotonic() < deadline, f"{found} of {wanted} events are counted after {ANSWER_WITHIN_S:g} s"
            time.sleep(0.05)

    def get(self, path: str) -> bytes:
        assert self._url.hostname is not None
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=ANSWER_WITHIN_S)
        with closing(connection):
            connection.request("GET", self._url.path + path)
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:500])
        return body
