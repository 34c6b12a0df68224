"""Map output on disks that are full or cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from mapreduce.exceptions import MapFailedError, StoreUnavailableError, WorkerUnableError
from mapreduce.job.basic_job import CallSpec
from mapreduce.resource_error import as_unable
from mapreduce.step.map import MapJob, run_map
from mapreduce.step.spill import RunWriter
from mapreduce.task_error import is_of_task


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Return the name of a file on a device without space, which can be removed."""
    (tmp_path / "full").symlink_to("/dev/full")
    return tmp_path / "full"


def mapped(path: Path, *, skip: bool = False, map_function: Any = None) -> Any:
    job = MapJob(
        map=map_function or (lambda documents: ((str(document["_id"]), "x" * 1_000) for document in documents)),
        combine=None,
        labelled=False,
        partitions=2,
        spill_bytes=10**9,
    )
    documents = [{"_id": number} for number in range(500)]
    return run_map(job, lambda: [documents], lambda: RunWriter(path), skip=skip)


@pytest.mark.parametrize("skip", [False, True])
def test_a_full_disk_is_a_lack_of_the_worker_and_not_a_mistake_of_the_map(full: Path, skip: bool) -> None:
    with pytest.raises(WorkerUnableError, match="No space left on device: check the disk of job_root") as caught:
        mapped(full, skip=skip)[0].finish()
    assert caught.value.retryable
    assert not full.is_symlink(), "what was written is removed"


def test_a_folder_that_cannot_be_made_is_a_lack_of_the_worker(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerUnableError, match=r"Not a directory|File exists"):
        mapped(tmp_path / "file" / "run")[0].finish()


def test_the_same_error_raised_by_a_map_is_its_own(tmp_path: Path) -> None:
    def write(documents: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MapFailedError, match="No space left"):
        mapped(tmp_path / "run", map_function=write)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.EDQUOT])
def test_errors_of_the_operating_system_outside_of_tasks_are_a_lack_of_the_worker(number: int) -> None:
    found = as_unable(OSError(number, "no"))
    assert found is not None
    assert (found.code, found.retryable) == ("worker_unable", True)


def test_too_little_memory_and_no_more_threads_are_a_lack_of_the_worker() -> None:
    assert as_unable(MemoryError()) is not None
    assert as_unable(RuntimeError("can't start new thread")) is not None
    assert as_unable(RuntimeError("boom")) is None
    assert as_unable(StoreUnavailableError("away")) is None


def test_a_memory_error_is_that_of_the_task_only_if_the_task_raised_it() -> None:
    def greedy() -> None:
        bytes(2**60)

    with pytest.raises(MemoryError) as of_task:
        greedy()
    with pytest.raises(MemoryError) as of_engine:
        CallSpec.from_document({"code": [], "job_id": "j", "func_name": "m:f", "arguments": 2**60})
    assert is_of_task(of_task.value)
    assert not is_of_task(of_engine.value)
