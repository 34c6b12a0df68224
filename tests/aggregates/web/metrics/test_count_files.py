"""The space of the files in which web processes count requests."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from aggregates.web.metrics.count_files import KINDS, RESERVED_BYTES, reserve, trim


def files(folder: Path) -> list[Path]:
    return [folder / f"{kind}_{os.getpid()}.db" for kind in KINDS]


def count(path: Path, key: str) -> None:
    counts = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    counts.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call]
    counts.close()  # type: ignore[no-untyped-call]


def counted(path: Path) -> dict[str, float]:
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}  # type: ignore[no-untyped-call]


def test_all_blocks_of_the_files_are_there_before_a_count_is_written(tmp_path: Path) -> None:
    reserve(tmp_path)
    for path in files(tmp_path):
        count(path, "a")
        assert counted(path) == {"a": 3.0}
        status = path.stat()
        assert (status.st_size, status.st_blocks * 512 >= RESERVED_BYTES) == (RESERVED_BYTES, True)


@pytest.mark.parametrize("room", [0, 1])
def test_nothing_is_left_of_files_for_which_there_is_no_room(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        if len(list(tmp_path.iterdir())) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_counts_of_a_process_that_ended_take_little_space_and_those_of_its_number_go_on(tmp_path: Path) -> None:
    trim(tmp_path, os.getpid())  # it counted nothing
    reserve(tmp_path)
    for path in files(tmp_path):
        count(path, "a")
    trim(tmp_path, os.getpid())
    for path in files(tmp_path):
        assert (path.stat().st_size < 200, counted(path)) == (True, {"a": 3.0})
    reserve(tmp_path)
    for path in files(tmp_path):
        count(path, "b")
        assert counted(path) == {"a": 3.0, "b": 3.0}
