"""docs/operations.md explains every metric of `/metrics`."""

from __future__ import annotations

import re

from zarkov_site.config.config import REPOSITORY

NAME = re.compile(r'"(zarkov_[a-z_]+)"')
SOURCES = [
    REPOSITORY / "aggregates" / "web" / "health.py",
    *(REPOSITORY / "aggregates" / "web" / "metrics").glob("*.py"),
]


def test_every_metric_is_explained() -> None:
    shown = {name for path in SOURCES for name in NAME.findall(path.read_text())}
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    explained = {name.removesuffix("_total") for name in re.findall(r"`(zarkov_[a-z_]+)", text)}
    assert len(shown) > 30
    assert shown - explained == set()
    assert explained - shown == set(), "these metrics are not in /metrics"
