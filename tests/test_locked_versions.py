"""Locked versions are compared with those that are known to be bad, without a network."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import locked_versions
from tests.locked_versions import KNOWN_BAD, LOCKS, behind, faults, known_bad, locked
from zarkov_site.config.config import REPOSITORY


def test_no_locked_version_is_known_to_be_bad() -> None:
    versions = locked(REPOSITORY / name for name in LOCKS)
    assert {"django", "pymongo", "pytest"} <= set(versions)
    assert faults(versions, known_bad(KNOWN_BAD.read_text())) == []


def test_a_bad_version_is_named_with_the_reason(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("Zope.Interface==1.0 ; python_version > '3' \\\n    --hash=sha256:00\nother==2.0 \\\n")
    bad = list(known_bad("# a comment\n\nzope-interface<1.1  # too old\nother<2.0  # fine\nabsent<9  # not locked\n"))
    assert faults(locked([lock]), bad) == [
        "zope-interface==1.0 is known to be bad (zope-interface<1.1): too old; run `make lock`"
    ]
    with pytest.raises(ValueError, match="has no reason"):
        list(known_bad("other<3"))


def test_without_a_network_nothing_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(locked_versions.subprocess, "run", fail)
    assert behind({"django": "1"}) is None
    assert locked_versions.main(["--outdated"]) == 0
    assert "no package index answers" in capsys.readouterr().out
