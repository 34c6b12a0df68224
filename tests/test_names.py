"""Modules are named with words of the glossary or everyday words, and packages stay small."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.paths import named
from zarkov_site.config.config import REPOSITORY

PACKAGES = ("zarkov_site", "aggregates", "ingest", "mapreduce")
MOST_MODULES = 20  # in one folder
NAMED_BY_DJANGO = {"zarkov_site/sqlite/base.py"}  # which loads a database backend by this name
VAGUE = {"utils", "helpers", "common", "base", "manager"}
HEADING = "## Everyday words in module names"


def modules() -> list[Path]:
    """Return all our modules except those that Django names, management commands and those that start with `__`."""
    found = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    return sorted(
        p
        for p in found
        if not p.name.startswith("__")
        and not {"migrations", "commands", "build"} & set(p.parts)
        and named(p) not in NAMED_BY_DJANGO
    )


def forms(word: str) -> set[str]:
    """Return the word in singular and plural."""
    return {word, f"{word}s", word.removesuffix("s")}


def glossary() -> tuple[set[str], set[str]]:
    """Return the words of the terms, and the everyday words."""
    terms, _, everyday = (REPOSITORY / "docs" / "glossary.md").read_text().partition(HEADING)
    rows = re.findall(r"^\| (?!word )([^|]+) \|", terms, re.MULTILINE)
    words = {word for row in rows for word in re.findall(r"[a-z]+", row.lower().replace("-", ""))}
    _, _, listed = everyday.strip().partition("\n\n")  # after its first paragraph
    return words, set(re.findall(r"[a-z]+", listed))


def named_paths() -> list[Path]:
    """Return all our modules, and the folders that hold them below the top packages."""
    tops = {REPOSITORY / package for package in PACKAGES}
    folders = {folder for path in modules() for folder in path.parents if not tops.isdisjoint(folder.parents)}
    return sorted({*modules(), *folders})


def test_every_module_and_package_is_named_with_known_words() -> None:
    terms, everyday = glossary()
    known = {form for word in terms | everyday for form in forms(word)}
    unknown = {named(path): set(path.stem.split("_")) - known for path in named_paths()}
    assert {name: words for name, words in unknown.items() if words} == {}


def test_every_everyday_word_is_used_and_is_not_a_term() -> None:
    terms, everyday = glossary()
    used = {form for path in named_paths() for word in path.stem.split("_") for form in forms(word)}
    assert everyday - used == set()
    assert everyday & terms == set()


def test_the_tables_of_the_glossary_are_in_alphabetical_order() -> None:
    text = (REPOSITORY / "docs" / "glossary.md").read_text().partition(HEADING)[0]
    for table in text.split("\n## ")[1:]:
        rows = [row.lower() for row in re.findall(r"^\| (?!word )([^|]+) \|", table, re.MULTILINE)]
        assert rows == sorted(rows)


def test_no_folder_has_too_many_modules() -> None:
    tests = (path for path in (REPOSITORY / "tests").rglob("*.py") if not path.name.startswith("__"))
    sizes = Counter(named(path.parent) for path in (*modules(), *tests))
    assert {folder: count for folder, count in sizes.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("path", modules(), ids=named)
def test_a_module_name_is_neither_vague_nor_that_of_a_standard_module(path: Path) -> None:
    assert path.stem not in VAGUE | sys.stdlib_module_names
