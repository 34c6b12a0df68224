"""The documentation names everything public, and agrees with the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.support.paths import named
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.source import FILE_VARIABLE, known_keys, load

DOCS = REPOSITORY / "docs"


def test_the_table_of_settings_is_complete() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert rows == list(known_keys())


def our_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app in {"zarkov_site", "ingest", "aggregates"})


def texts() -> list[Path]:
    return [*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("name", our_commands())
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    shown = " ".join(command.create_parser("manage.py", name).format_help().split())
    assert command.help
    if name != "shell":
        assert f"manage.py {name}" in shown.partition("example: ")[2]


@pytest.mark.parametrize("path", texts(), ids=named)
def test_named_commands_exist(path: Path) -> None:
    commands = set(re.findall(r"manage\.py ([a-z]+)\b", path.read_text()))
    assert commands - set(get_commands()) == set()


def has_target(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", texts(), ids=named)
def test_links_between_pages_have_targets(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()) if "://" not in link]
    assert [link for link in links if not has_target(path, link)] == []


@pytest.mark.parametrize("path", texts(), ids=named)
def test_settings_shown_as_yaml_are_valid(path: Path, tmp_path: Path) -> None:
    for number, block in enumerate(
        re.findall(r"^```yaml[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    ):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load({FILE_VARIABLE: str(file)})


@pytest.mark.parametrize("path", texts(), ids=named)
def test_named_files_and_folders_exist(path: Path) -> None:
    code = re.findall(r"`([^`\n]+)`", path.read_text())
    rooted = re.compile(r"(zarkov_site|aggregates|ingest|mapreduce|tests|docs|templates)/[\w./-]*")
    paths = {word for text in code for word in text.split() if rooted.fullmatch(word)}
    assert [name for name in sorted(paths) if not (REPOSITORY / name).exists()] == []


def test_pre_commit_hooks_are_those_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == commands


def test_the_repository_contains_no_registry_host_and_no_path_of_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    hosts = re.compile("|".join(["npm" + r"js\.", "py" + r"pi\.org", "python" + "hosted", r"/(work|farm|root)/"]))
    offenders = []
    for name in tracked.splitlines():
        path = REPOSITORY / name
        if path.suffix in {".gz", ".png"} or not path.is_file():
            continue
        if hosts.search(path.read_text(errors="replace")):
            offenders.append(name)
    assert offenders == []


@pytest.mark.parametrize("path", texts(), ids=named)
def test_named_tests_exist(path: Path) -> None:
    files: dict[str, str] = {}
    for file in (REPOSITORY / "tests").rglob("test_*.py"):
        files[file.stem] = files.get(file.stem, "") + file.read_text()
    found = re.findall(r"`(?:tests/[\w/]+/)?(test_\w+)(?:\.py)?(?:::(test_\w+))?[:`]", path.read_text())
    assert [
        (module, test) for module, test in found if module not in files or f"def {test or 'test_'}" not in files[module]
    ] == []
