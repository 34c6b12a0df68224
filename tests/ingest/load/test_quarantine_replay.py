"""The text of an edit form: every refused input can be shown, and what is not changed keeps its types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.load.quarantine_replay import from_text, text_to_mend


def entry(raw: bytes) -> dict[str, Any]:
    return {"_id": {"j": "j", "s": 1, "i": 0}, "code": "bad_json", "raw": raw}


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"type": "x", "extra": "\ud800"}',
        rb'{"type": "x", "extra": {"a": ["\udfff", "\u00e9", "\ud83d\ude00"]}}',
        rb'{"type": "x", "\ud800": 1}',
        rb'{"type": "x", "extra": "\\ud800 \ud800\\"}',
    ],
)
def test_half_of_a_surrogate_pair_is_shown_as_json_writes_it(raw: bytes) -> None:
    text = text_to_mend(entry(raw))
    text.encode()
    assert from_text(text) == json.loads(raw)
