"""Check the locked versions: `python -m tests.locked_versions`, and with `--outdated` list what is behind.

Known-bad versions, as the file `tests/known-bad-versions.txt` names them, fail without a network. pip asks the package
index what is behind; without a network this is said, and is no failure. Advisories and dates of releases are not looked
up: no index that every developer reaches has them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from zarkov_site.config.config import REPOSITORY

LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-node.txt")
KNOWN_BAD = REPOSITORY / "tests" / "known-bad-versions.txt"
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
INDEX_WITHIN_S = 300.0


def locked(paths: Iterable[Path]) -> dict[str, str]:
    """Return the version of each locked package by its normal name."""
    return {
        str(canonicalize_name(name)): version for path in paths for name, version in _LOCKED.findall(path.read_text())
    }


def known_bad(text: str) -> Iterator[tuple[Requirement, str]]:
    """Yield each line's requirement and its reason. Raise `ValueError` for a line without a reason."""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        requirement, separator, why = line.partition("#")
        if not separator or not why.strip():
            raise ValueError(f"{KNOWN_BAD.name}: {line!r} has no reason: write NAME<VERSION  # why")
        yield Requirement(requirement.strip()), why.strip()


def faults(versions: dict[str, str], bad: Iterable[tuple[Requirement, str]]) -> list[str]:
    """Return a sentence for each locked version that is known to be bad."""
    return [
        f"{name}=={versions[name]} is known to be bad ({requirement}): {why}; run `make lock`"
        for requirement, why in bad
        if (name := str(canonicalize_name(requirement.name))) in versions
        and requirement.specifier.contains(versions[name], prereleases=True)
    ]


def behind(versions: dict[str, str]) -> list[str] | None:
    """Return a line for each locked package that has a newer release; None if no package index answers."""
    command = [sys.executable, "-m", "pip", "list", "--outdated", "--format=json", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_WITHIN_S, check=True)
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None
    newest = {str(canonicalize_name(each["name"])): each["latest_version"] for each in found}
    return [
        f"{name} {version} -> {newest[name]}"
        for name, version in sorted(versions.items())
        if name in newest and newest[name] != version
    ]


def main(arguments: list[str]) -> int:
    """Print what is wrong, and with `--outdated` what is behind; return 1 if a locked version is known to be bad."""
    versions = locked(REPOSITORY / name for name in LOCKS)
    found = faults(versions, known_bad(KNOWN_BAD.read_text()))
    for sentence in found:
        print(sentence)
    if "--outdated" in arguments:
        lines = behind(versions)
        print("not checked what is behind: no package index answers" if lines is None else "\n".join(lines))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
