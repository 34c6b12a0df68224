from __future__ import annotations

import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce.exceptions import KeyRefusedError
from mapreduce.key import canonical, identity
from mapreduce.step.partition import group_by_partition

texts = st.text(st.characters(codec="utf-8"), max_size=6)


@given(st.sets(texts) | st.sets(texts | st.integers(-9, 9)), st.integers(1, 5))
def test_each_partition_holds_its_keys_in_canonical_order(names: set[str | int], count: int) -> None:
    found = list(group_by_partition(names, count))
    assert sorted(canonical(name) for _, part in found for name in part) == sorted(map(canonical, names))
    assert len({index for index, _ in found}) == len(found)
    for index, part in found:
        assert part
        assert {zlib.crc32(canonical(name)) % count for name in part} == {index}
        assert part == sorted(part, key=canonical)


def test_partitions_are_the_same_in_every_process() -> None:
    sample = ["a", "ü", 1, -5, 0.5, None, True, b"x"]
    names = [identity(key)[0] for key in sample]
    use = "from mapreduce.step.partition import group_by_partition"
    program = f"{use}; print(list(group_by_partition({names!r}, 7)))"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=".",
        )
        assert found.stdout.strip() == str(list(group_by_partition(names, 7)))


@pytest.mark.parametrize("names", [["\ud800"], ["\ud800", 1], [2**63, "a"]])
def test_keys_that_cannot_be_stored_are_refused(names: list[str | int]) -> None:
    with pytest.raises(KeyRefusedError):
        list(group_by_partition(names, 3))
