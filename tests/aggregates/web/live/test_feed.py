"""A change of a series, applied to the old state, gives the new one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from aggregates.web.live import feed as feed_module
from aggregates.web.live import series_state
from aggregates.web.live.feed import SeriesFeed, series_change
from aggregates.web.live.series_state import SeriesState
from aggregates.web.series.points import Series
from aggregates.web.series.query import SeriesQuery

_points = st.dictionaries(st.integers(0, 40), st.integers(0, 3) | st.none(), max_size=40)


def _encoded(answer: Mapping[str, Any]) -> SeriesState:
    facts = {name: value for name, value in answer.items() if name != "series"}
    return SeriesState.of([Series(**deepcopy(one)) for one in answer["series"]], facts)


def _state(series: list[dict[int, Any]], through: int) -> dict[str, Any]:
    return {
        "series": [
            {"label": str(i), "key": str(i), "field": "v", "data": [[x, data[x]] for x in sorted(data)]}
            for i, data in enumerate(series)
        ],
        "through": through,
    }


@pytest.fixture(autouse=True, scope="module")
def _short_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_state, "_PIECE_POINTS", 7)
        yield


@given(st.lists(_points, min_size=1, max_size=3), st.lists(_points, min_size=1, max_size=3), st.integers(0, 1))
def test_applying_a_change_gives_the_new_state_exactly(before: Any, after: Any, step: int) -> None:
    old, new = _state(before, 1), _state(after, 1 + step)
    message = series_change(_encoded(old), _encoded(new))
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


def test_values_that_are_not_finite_are_no_change_as_long_as_they_stay(
    database: Database[dict[str, Any]], aggregate: Any
) -> None:
    aggregate("a", {"x/2011-07-01": math.nan, "x/2011-07-02": math.inf, "x/2011-07-03": 2**63 - 2})
    feed = SeriesFeed(SeriesQuery("a"), lambda: database)
    before = feed.read()
    assert [y for _, y in json.loads(feed.whole(before).data)["series"][0]["data"]] == [None, None, 2**63 - 2]
    assert feed.change(before, feed.read()) is None
    aggregate("a", {"x/2011-07-03": 2**63 - 1})
    change = feed.change(before, feed.read())
    assert change is not None
    assert [y for _, y in json.loads(change.data)["series"][0]["set"]] == [2**63 - 1]


def test_a_change_beside_two_points_at_one_x_sends_all_of_them() -> None:
    def state(*data: list[int]) -> dict[str, Any]:
        return {"series": [{"label": "", "key": "", "field": "v", "data": list(data)}], "through": len(data)}

    for before, after in (
        (state([0, 1], [0, 2]), state([0, 1], [0, 3])),
        (state([0, 1], [0, 2]), state([0, 1], [0, 2], [1, 5])),
        (state([0, 1]), state([0, 1], [0, 2])),
        (state([0, 1], [0, 2]), state([0, 2])),
    ):
        message = series_change(_encoded(before), _encoded(after))
        assert message is not None
        assert (message.kind, json.loads(message.data)) == ("series", after)


def test_a_change_of_many_points_sends_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MOST_CHANGED", 60)
    old = _state([dict.fromkeys(range(200), 0)], 1)
    kinds = []
    for count in (60, 61):
        new = _state([dict.fromkeys(range(200), 0) | dict.fromkeys(range(count), 1)], 2)
        message = series_change(_encoded(old), _encoded(new))
        assert message is not None
        kinds.append(message.kind)
    assert kinds == ["points", "series"]


LONG = "k" * 60_000


@pytest.mark.parametrize("name", ["label", "key", "field"])
def test_the_size_of_a_state_counts_its_texts(name: str) -> None:
    series = {"label": "", "key": "", "field": "", "data": [[0, 1]]}
    short, long = _encoded({"series": [series] * 2}), _encoded({"series": [{**series, name: LONG}] * 2})
    assert long.size_bytes - short.size_bytes == 2 * len(LONG)


def test_pieces_of_long_categories_are_small() -> None:
    data = [[f"{LONG}{i}", i] for i in range(5)] + [[i, i] for i in range(20)]
    (series,) = _encoded({"series": [{"label": "", "key": "", "field": "", "data": deepcopy(data)}]}).series
    assert max(map(len, series.pieces)) < 2 * len(LONG)
    assert list(series.points()) == data


@pytest.mark.parametrize(
    "documents",
    [
        {f"{LONG}{i}/2011-07-01": 1 for i in range(9)},
        {"2011-07-01": {f"{LONG}{i}": 1 for i in range(9)}},
        {f"{LONG}{i}": 1 for i in range(9)},
    ],
    ids=["keys", "fields", "categories"],
)
def test_the_work_of_an_answer_counts_its_texts(
    database: Database[dict[str, Any]], aggregate: Any, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate("a", documents)
    sizes = []

    def compute(size_bytes: int, function: Any, *args: Any) -> Any:
        sizes.append(size_bytes)
        return function(*args)

    monkeypatch.setattr(feed_module, "compute", compute)
    feed = SeriesFeed(SeriesQuery("a"), lambda: database)
    state = feed.read()
    feed.whole(state)
    feed.change(state, SeriesState.of([], state.facts))
    assert len(sizes) == 3 and min(sizes) >= 9 * len(LONG)
