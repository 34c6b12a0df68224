"""The examples of docs/clients.md work; only their addresses are replaced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.support.web.node import NODE
from tests.support.web.server import Server
from zarkov_site.config.config import REPOSITORY

BLOCK = re.compile(r"^```(\w+) (runs|needs=\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUNTIMES = {
    "python": [sys.executable, "-W", "error", "-c"],
    "sh": ["sh", "-ec"],
    "js": [NODE, "-e"],
    "perl": ["perl", "-Mstrict", "-Mwarnings", "-e"],
    "php": ["php", "-r"],
}
PROBES = {"js": 'require("{}")', "perl": "use {};", "php": 'exit(extension_loaded("{}") ? 0 : 1);'}


def is_installed(language: str, condition: str) -> bool:
    """Return True if this machine has the runtime of an example and the package that it needs."""
    command = RUNTIMES[language]
    if shutil.which(command[0]) is None:
        return False
    needed = condition.partition("=")[2]
    if not needed:
        return True
    probe = [*command, PROBES[language].format(needed)]
    return subprocess.run(probe, cwd=REPOSITORY, capture_output=True, timeout=90, check=False).returncode == 0


def examples() -> list[Any]:
    found = BLOCK.findall((REPOSITORY / "docs" / "clients.md").read_text())
    return [
        pytest.param(language, code, page, id=page)
        for language, condition, code in found
        for page in re.findall(r'page"?:? (?:=> )?"(/[a-z-]+)"', code)
        if is_installed(language, condition)
    ]


@pytest.mark.parametrize(("language", "code", "page"), examples())
def test_the_example_sends_an_event(server: Server, language: str, code: str, page: str) -> None:
    addresses = server.folder.addresses()
    for shown, key in (("6543", "bson"), ("6544", "json"), ("6546", "ack")):
        code = code.replace(f"tcp://localhost:{shown}", addresses[f"{key}_bind_address"])
    code = code.replace("http://localhost:8081/", server.url()).removeprefix("<?php\n")
    done = subprocess.run(
        [*RUNTIMES[language], code], cwd=REPOSITORY, env=os.environ | {"TOKEN": server.token},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: server.database["event"].count_documents({"context.page": page}) == 1)


def test_each_documented_language_has_an_example() -> None:
    assert {language for language, *_ in BLOCK.findall((REPOSITORY / "docs" / "clients.md").read_text())} == set(
        RUNTIMES
    )
    assert len(examples()) >= 4, "curl, and Python with and without our client, run everywhere"
