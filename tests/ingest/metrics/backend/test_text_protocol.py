"""Names as statsd and graphite read them."""

from __future__ import annotations

import argparse
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.metrics.backend.text_protocol import PART_BYTES, PATH_BYTES, path, path_prefix
from ingest.metrics.identity import Identity


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a..b", "a._x00.b"),
        (".a", "_x00.a"),
        ("a.", "a._x00"),
        (".", "_x00._x00"),
        ("a.b", "a.b"),
        ("a_x00b", "a_x5Fx00b"),
    ],
)
def test_a_path_has_no_empty_part_and_names_stay_distinct(name: str, written: str) -> None:
    assert path(Identity("info", "Counter", name, "shop"), "z.") == f"z.shop.{written}"


def test_an_empty_source_or_tag_makes_no_empty_part() -> None:
    assert path(Identity("info", "Counter", "n", "a."), "") == "a._x00.n"
    assert path(Identity("info", "Counter", "n", "a", (("k", "."),)), "") == "a.n.k_._x00"


@pytest.mark.parametrize("text", ["", "z", "z.", "shop.web-1."])
def test_a_prefix_of_whole_parts_is_taken(text: str) -> None:
    assert path_prefix(text) == text


@pytest.mark.parametrize("text", [".", ".z", "z..", "a b.", "a/b.", "z\n"])
def test_a_prefix_with_empty_parts_or_other_characters_is_refused_by_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        path_prefix(text)


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=8, unique=True))
def test_long_paths_are_shortened_and_stay_distinct(names: list[str]) -> None:
    found = [
        path(Identity("info", "Counter", name.replace("\0", "0"), "s", (("k" * 60, "日" * 100),)), "") for name in names
    ]
    assert len(set(found)) == len({name.replace("\0", "0") for name in names})
    for text in found:
        assert len(text) <= PATH_BYTES
        assert all(1 <= len(part) <= PART_BYTES for part in text.split("."))
