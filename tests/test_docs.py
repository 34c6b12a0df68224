"""The documentation names everything public, and says of it what the code says."""

from __future__ import annotations

import re

from zarkov_site.config import REPOSITORY
from zarkov_site.source import known_keys

DOCS = REPOSITORY / "docs"


def test_every_setting_is_in_the_table() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert rows == list(known_keys())
