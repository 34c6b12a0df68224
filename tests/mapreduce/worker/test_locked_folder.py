"""Folders of workers that cannot be used are errors that name the folder and what to change."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapreduce.exceptions import MapReduceError, WorkerUnableError
from mapreduce.settings import EngineSettings
from mapreduce.worker.executor_process import ExecutorFactory
from mapreduce.worker.locked_folder import LockedFolder
from mapreduce.worker.worker import Worker
from tests.support.command import manage


def file_in_place(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("")
    return path


def below_file(folder: Path) -> Path:
    return file_in_place(folder) / "below"


def dangling(folder: Path) -> Path:
    path = folder / "link"
    path.symlink_to("/proc/nonexistent")
    return path


def circle(folder: Path) -> Path:
    path = folder / "circle"
    path.symlink_to(path)
    return path


def too_long(folder: Path) -> Path:
    return folder / ("n" * 300)


UNUSABLE = [file_in_place, below_file, dangling, circle, too_long]


@pytest.mark.parametrize("make", UNUSABLE)
def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path)
    with pytest.raises(WorkerUnableError, match=r"choose another one with zmr\.job_root$") as caught:
        LockedFolder(root, "worker-", "zmr.job_root")
    assert caught.value.message.startswith(f"zmr.job_root {root} cannot be used (")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_whatever_the_disk_refuses_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(WorkerUnableError) as caught:
        LockedFolder(tmp_path / "zmr", "worker-", "zmr.job_root")
    monkeypatch.undo()
    assert caught.value.message.startswith(f"zmr.job_root {tmp_path / 'zmr'} cannot be used ({os.strerror(code)}): ")


def test_a_worker_that_cannot_start_leaves_nothing_behind(make_settings: Callable[..., EngineSettings]) -> None:
    settings = make_settings()
    settings.job_root.write_text("")
    worker = Worker(settings)
    try:
        with pytest.raises(WorkerUnableError, match=f"zmr.job_root {settings.job_root} cannot be used"):
            worker.start()
    finally:
        worker.stop()


def test_a_worker_without_temporary_files_names_the_variable_and_leaves_nothing_behind(
    make_settings: Callable[..., EngineSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    settings = make_settings()
    worker = Worker(settings)
    try:
        with pytest.raises(WorkerUnableError, match=r"^No usable temporary directory .*: set TMPDIR to a folder"):
            worker.start()
    finally:
        worker.stop()
    assert list(settings.job_root.iterdir()) == []


def test_a_folder_of_sockets_that_cannot_be_made_names_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(below_file(tmp_path)))
    with pytest.raises(MapReduceError, match=r"^TMPDIR .* cannot be used"):
        ExecutorFactory(None, lambda: None)  # type: ignore[arg-type, return-value]


def test_runworker_reports_an_unusable_folder_in_one_line(tmp_path: Path) -> None:
    root = file_in_place(tmp_path)
    done = manage("runworker", environ={"ZARKOV_HOME": str(tmp_path / "home"), "ZARKOV_ZMR__JOB_ROOT": str(root)})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"CommandError: zmr.job_root {root} cannot be used (File exists): ")
