"""A change of a series, applied to the old state, gives the new one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregates.web.live.feed import series_change

_points = st.dictionaries(st.integers(0, 40), st.integers(0, 3) | st.none(), max_size=40)


def _state(series: list[dict[int, Any]], through: int) -> dict[str, Any]:
    return {
        "series": [
            {"label": str(i), "key": str(i), "field": "v", "data": [[x, data[x]] for x in sorted(data)]}
            for i, data in enumerate(series)
        ],
        "through": through,
    }


@given(st.lists(_points, min_size=1, max_size=3), st.lists(_points, min_size=1, max_size=3), st.integers(0, 1))
def test_applying_a_change_gives_the_new_state_exactly(before: Any, after: Any, step: int) -> None:
    old, new = _state(before, 1), _state(after, 1 + step)
    message = series_change(old, new)
    if message is None:
        assert old == new
        return
    content = json.loads(message.data)
    if message.kind == "series":
        assert content == new
        return
    by_name = {(series["key"], series["field"]): dict(series["data"]) for series in old["series"]}
    for item in content["series"]:
        data = by_name[item["key"], item["field"]]
        for x in item["gone"]:
            del data[x]
        data.update(dict(item["set"]))
    expected = {(s["key"], s["field"]): dict(s["data"]) for s in new["series"]}
    assert by_name == expected
    assert content["through"] == new["through"]
