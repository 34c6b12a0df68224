"""Backends are found by name and by entry point."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.metrics.backend.backend_lookup import backend_names, load_backend
from ingest.metrics.exceptions import BackendError
from tests.support.ingest.backends import Collecting


def test_backends_are_found_by_name_and_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[zarkov.backends]\nother = {Collecting.__module__}:Collecting\nbroken = no.such:Thing\nwrong = json:loads\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_backend("other").name == "collecting"
    assert {"zarkov", "librato", "statsd", "graphite", "log", "other"} <= set(backend_names())
    own = ("zarkov", "librato", "statsd", "graphite", "log")
    assert [load_backend(name).name for name in own] == list(own)
    for name, text in (("unknown", "use broken, graphite"), ("broken", "No module"), ("wrong", "not a subclass")):
        with pytest.raises(BackendError, match=text):
            load_backend(name)
