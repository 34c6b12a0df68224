"""The backend `graphite`: lines over TCP, kept until Graphite has read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ingest.metrics.backend.graphite import GraphiteBackend
from ingest.metrics.identity import Identity
from ingest.metrics.wire import Batch, pack_batch
from tests.support.ingest.backends import RecordingServer, batch, made

Closing = Callable[[Any], Any]


def test_graphite_receives_lines_which_leave_the_queue_once_it_has_read_them(closing: Closing) -> None:
    server = closing(RecordingServer())
    backend = made(GraphiteBackend, host="127.0.0.1", port=server.port, prefix="z.")
    backend.handle_message(batch("calls", sum=7, count=3, tags=(("a", "b"),)))
    backend.handle_message(
        batch("my time", type="Timer", sum=3.0, count=2, min=1.0, max=2.0, last=2.0, sketch={"positive": [1, 2]})
    )
    before = int(time.time())
    assert backend.flush()
    found = [line.split() for line in server.received[0].decode().splitlines()]
    assert {name: float(value) for name, value, _ in found if "calls" in name} == {
        "z.x.calls.a_b.count": 3, "z.x.calls.a_b.sum": 7,
    }  # fmt: skip
    assert {name.rpartition(".")[2] for name, _, _ in found if "my_x20time" in name} == {
        "count", "mean", "min", "max", "last", "p50", "p95", "p99",
    }  # fmt: skip
    assert all(before <= int(when) <= time.time() for _, _, when in found)
    server.close()
    backend.handle_message(batch("late", sum=1))
    assert not backend.flush()
    assert len(backend.payloads) == 2


def test_metrics_with_the_same_graphite_path_are_merged_unless_their_types_differ() -> None:
    backend = made(GraphiteBackend, prefix="")

    def flushed() -> dict[str, float]:
        return {line.split()[0].decode(): float(line.split()[1]) for line in backend.pack()}

    timer: dict[str, Any] = {"type": "Timer", "min": 1, "max": 3, "last": 2}
    backend.handle_message(batch("a", sum=2))
    backend.handle_message(batch("a", "warn", sum=3))
    backend.handle_message(batch("a", count=2, sum=6, **timer))
    backend.handle_message(pack_batch(Batch(Identity("info", "Counter", "a", "x", rate=0.1), 5, 1, 1)))
    backend.handle_message(pack_batch(Batch(Identity("info", "Set", "a", "x"), 5, 1, 1, sketch={"hashes": [1]})))
    for name in ("ä", "ö", "_", "_xC3_xA4", "c d", "c_d"):
        backend.handle_message(batch(name))
    found = flushed()
    assert (found["x.a.count"], found["x.a.sum"]) == (12, 15)
    assert (found["x.a.timer.count"], found["x.a.timer.mean"], found["x.a.timer.last"]) == (2, 3, 2)
    assert (found["x.a.set.count"], found["x.a.set.distinct"]) == (1, 1)
    sums = {name for name in found if name.endswith(".sum")}
    assert sums == {
        f"x.{name}.sum" for name in ("a", "_xC3_xA4", "_xC3_xB6", "_", "_x5FxC3_x5FxA4", "c_x20d", "c_d")
    }  # fmt: skip
    backend.handle_message(batch("a", count=2, sum=6, **timer))
    assert set(flushed()) == {name for name in found if ".a.timer." in name}  # also when it comes alone
