"""The watch that `up` keeps over task files."""

from __future__ import annotations

from pathlib import Path

from zarkov_site.processes.task_files import TaskFileWatch


def test_changed_new_and_removed_task_files_are_reported_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("1")
    files = TaskFileWatch(lambda: [one, two])
    assert files.changed() == []
    one.write_text("1 + 1")
    two.write_text("2")
    assert files.changed() == [one, two]
    assert files.changed() == []
    two.unlink()
    assert files.changed() == [two]
