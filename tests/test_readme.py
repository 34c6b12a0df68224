"""The commands of the README work unchanged and in order on a running system."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.system import System, running
from zarkov_site.config.config import REPOSITORY

pytestmark = pytest.mark.timeout(600)

_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = ("git clone", "make test")  # what `make run` and `make test` do is tested elsewhere


@dataclass(frozen=True)
class Block:
    language: str
    file: str
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall((REPOSITORY / "README.md").read_text())]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder in which the README's relative paths work, without touching the real checkout."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("manage.py", "zarkov_site", "ingest", "mapreduce", "aggregates", "templates", "node_modules"):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


@pytest.fixture
def system(checkout: Path, tmp_path: Path) -> Iterator[System]:
    for block in blocks():
        if block.file:
            (checkout / block.file).parent.mkdir(parents=True, exist_ok=True)
            (checkout / block.file).write_text(block.text)
    with running(tmp_path / "home", "--no-sample", cwd=checkout) as made:
        yield made


def run(system: System, block: Block) -> subprocess.CompletedProcess[str]:
    """Run a block as a user would, with the addresses of this system instead of the default ones."""
    text = block.text.replace("http://localhost:8081/", system.url())
    text = text.replace("tcp://localhost:6543", system.folder.address("bson_bind_address"))
    command = ["bash", "-euo", "pipefail", "-c", text] if block.language == "sh" else [sys.executable, "-c", text]
    return subprocess.run(
        command, cwd=system.cwd, env=system.environ, capture_output=True, text=True, timeout=240, check=False
    )


def test_each_command_of_the_readme_works(system: System) -> None:
    outputs = []
    for block in blocks():
        if block.file or block.text.startswith(NOT_RUN):
            continue
        done = run(system, block)
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    everything = "\n".join(outputs)
    assert '"accepted":1' in everything.replace(" ", "")
    assert '"visits"' in everything


def test_links_of_the_readme_have_targets() -> None:
    text = (REPOSITORY / "README.md").read_text()
    missing = [link for link in re.findall(r"\]\(([^)#]+)", text) if not (REPOSITORY / link).exists()]
    assert missing == []
