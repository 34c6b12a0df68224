"""Run a broker in a thread, and subscribe to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from ingest.management.stop_signal import StopSignal
from ingest.metrics.broker import Broker
from ingest.metrics.wire import BACKENDS, PUBLISHERS, Batch, Measurement, unpack
from tests.support.waiting import WITHIN_S

ANYWHERE = "tcp://127.0.0.1:0"


class Running:
    """Run a service with `run(stop)` in a thread."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self._stop = StopSignal()
        self._thread = threading.Thread(target=service.run, args=(self._stop,))
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._stop.close()


class RunningBroker(Running):
    def __init__(self, publishers: str = ANYWHERE, backends: str = ANYWHERE, **options: Any) -> None:
        broker = Broker(publishers, backends, **options)
        broker.start()
        self.publishers, self.backends = broker.addresses[PUBLISHERS], broker.addresses[BACKENDS]
        super().__init__(broker)

    def stop(self) -> None:
        super().stop()
        self.service.close()


class Listener:
    """A bare SUB socket, as any program may connect it."""

    def __init__(self, address: str, *prefixes: bytes) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        for prefix in prefixes or (b"",):
            self.socket.setsockopt(zmq.SUBSCRIBE, prefix)
        self.socket.connect(address)

    def message(self, within_s: float = WITHIN_S) -> bytes:
        assert self.socket.poll(int(within_s * 1000)), "nothing arrived"
        return self.socket.recv()

    def next(self, within_s: float = WITHIN_S) -> Measurement | Batch:
        return unpack(self.message(within_s))

    def until(
        self, enough: Callable[[list[Measurement | Batch]], bool], within_s: float = WITHIN_S
    ) -> list[Measurement | Batch]:
        """Return everything that arrives until `enough` is true of it."""
        deadline = time.monotonic() + within_s
        found: list[Measurement | Batch] = []
        while not enough(found):
            assert time.monotonic() < deadline, found[-3:]
            if self.socket.poll(50):
                found.append(unpack(self.socket.recv()))
        return found

    def rest(self, wait_s: float = 0.3) -> list[bytes]:
        found = []
        while self.socket.poll(int(wait_s * 1000)):
            found.append(self.socket.recv())
        return found

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


def counted(found: list[Measurement | Batch], name: str) -> int:
    """Return the number of measurements of this name in the batches."""
    return sum(b.count for b in found if isinstance(b, Batch) and b.identity.name == name)
