"""Write the files of a new aggregate: a package with a task module and its test."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from aggregates.exceptions import DefinitionError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}\Z")

TASK = '''"""Tasks of {name}: how events become numbers. See docs/aggregates.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aggregates import period
from aggregates.event_field import text_at
from aggregates.task import Task, register


@register
class {cls}(Task):
    """Events of each type on each day (UTC); key `type/YYYY-MM-DD`."""

    fields = ["timestamp", "type"]  # what map reads; omit it to get whole events

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            if kind := text_at(event, "type"):  # event_noval sends events without one
                yield f"{{kind}}/{{period.day_key(event['timestamp'])}}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)  # also gets its own results: must be associative and commutative

    def period(self, key: str) -> period.Span:  # omit it if keys have no period
        return period.day(key.rpartition("/")[2])  # in UTC; day_key and day take another zone as second argument
'''

TEST = '''"""Tests of the tasks of {name}, without a database."""

from __future__ import annotations

from datetime import UTC, datetime

from {module} import {cls}

EVENT = {{"_id": 1, "type": "login", "timestamp": datetime(2011, 7, 1, 12, tzinfo=UTC), "context": {{}}}}


def test_an_event_counts_on_its_day() -> None:
    assert list({cls}().map(iter([EVENT]))) == [("login/2011-07-01", 1)]


def test_an_event_without_a_type_is_left_out() -> None:
    assert list({cls}().map(iter([EVENT | {{"type": None}}]))) == []


def test_the_reduce_takes_its_own_results() -> None:
    task = {cls}()
    assert task.reduce("k", [task.reduce("k", [1, 1]), 1]) == task.reduce("k", [1, 1, 1]) == 3
'''


@dataclass(frozen=True)
class Scaffold:
    """The files of a new aggregate, before they are written."""

    name: str
    folder: Path

    @property
    def module(self) -> str:
        return f"{self.name}.agg_tasks"

    @property
    def cls(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def task_name(self) -> str:
        return f"{self.module}.{self.cls}"

    def files(self) -> dict[Path, str]:
        words = {"name": self.name, "cls": self.cls, "module": self.module}
        return {
            self.folder / "__init__.py": "",
            self.folder / "agg_tasks.py": TASK.format(**words),
            self.folder / "test_agg_tasks.py": TEST.format(**words),
        }


def scaffold(name: str, parent: Path) -> Scaffold:
    """Return the files for an aggregate in `parent`. Raise `DefinitionError` if `name` is not a valid module name."""
    if not _NAME.match(name) or keyword.iskeyword(name):
        raise DefinitionError(
            f"name {name!r} is not allowed: use lower-case letters, digits and _ after a letter, such as logins",
            "name",
        )
    return Scaffold(name, parent / name)


def write_files(new: Scaffold) -> list[Path]:
    """Write the files and return their paths. Raise `DefinitionError` and writes none if one of them exists."""
    files = new.files()
    existing = [path for path in files if path.exists()]
    if existing:
        raise DefinitionError(f"{existing[0]} already exists: choose another name, or delete it first", "name")
    new.folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)
