"""The backend `log`: one line per metric."""

from __future__ import annotations

import pytest

from ingest.metrics.backend.log import LogBackend
from tests.support.ingest.backends import made


def test_the_log_backend_logs_one_line_per_metric(caplog: pytest.LogCaptureFixture) -> None:
    backend = made(LogBackend)
    for n in range(100):
        backend.handle_message(f"info|Timer|t|{n / 100}|5|x")
    backend.handle_message(b"info|Counter|c|2|5|x")
    backend.handle_message(b"info|Set|s|me|5|x")
    with caplog.at_level("INFO"):
        backend.flush()
    assert [r.message for r in caplog.records if r.name == "zarkov.metrics"] == [
        "info Counter c x count=1 sum=2",
        "info Set s x count=1 distinct=1",
        "info Timer t x count=100 mean=0.495 min=0 max=0.99 p50=0.491608 p95=0.932345 p99=0.970396",
    ]
