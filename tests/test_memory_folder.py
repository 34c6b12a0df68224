"""The folder of a test process is in memory where there is enough."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.memory_folder import memory_folder


@pytest.mark.parametrize(("spare_bytes", "there"), [(0, True), (2**60, False)])
def test_a_folder_is_in_memory_if_there_is_plenty(spare_bytes: int, there: bool, tmp_path: Path) -> None:
    made = memory_folder("x-", tmp_path, spare_bytes)
    assert (made.is_dir(), made.parent == tmp_path) == (True, there)
    shutil.rmtree(made)


def test_a_folder_is_on_disk_where_none_is_in_memory(tmp_path: Path) -> None:
    made = memory_folder("x-", tmp_path / "missing", 1)
    assert made.is_dir() and made.parent != tmp_path
    shutil.rmtree(made)
