"""Load configurations from files and variables that a test makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from zarkov_site.config.config import Config
from zarkov_site.config.source import FILE_VARIABLE, load
from zarkov_site.exceptions import ConfigError

LISTS = ("trusted_proxies", "allowed_hosts", "cors_origins", "task_modules", "notify.email")


def config(tmp_path: Path, environ: dict[str, str] | None = None) -> Config:
    """Return the configuration that these variables give."""
    return load(environ or {}, [tmp_path])[0]


def file(tmp_path: Path, text: str) -> dict[str, str]:
    """Return the variable that names a configuration file of this text."""
    path = tmp_path / "given.yaml"
    path.write_text(text)
    return {FILE_VARIABLE: str(path)}


def refusal(tmp_path: Path, environ: dict[str, str]) -> str:
    """Return the error with which these variables are refused."""
    with pytest.raises(ConfigError) as caught:
        load(environ, [tmp_path])
    return str(caught.value)


def environment(key: str, text: str) -> dict[str, str]:
    """Return the variable that sets a dotted key."""
    return {f"ZARKOV_{key.upper().replace('.', '__')}": text}


def in_file(tmp_path: Path, key: str, text: str) -> dict[str, str]:
    """Return the variable that names a file in which a dotted key has this YAML."""
    *section, name = key.split(".")
    return file(tmp_path, f"{section[0]}:\n  {name}: {text}\n" if section else f"{name}: {text}\n")
