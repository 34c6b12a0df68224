"""The command line shared by all commands: `-y/--config FILE` and `--set key=value`, then Django's own."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence

from ingest import __version__
from zarkov_site.config.source import FILE_VARIABLE, SET_VARIABLE, load
from zarkov_site.exceptions import ConfigError, SiteError
from zarkov_site.processes.process import end_with_parent


def take_configuration(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str]:
    """Return `arguments` without `-y/--config FILE` and `--set key=value`, which go to `environ`.

    The environment carries them to child processes. Raises `ConfigError` when an option lacks its value.
    """
    left: list[str] = []
    assignments = list(filter(None, environ.get(SET_VARIABLE, "").splitlines()))
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            left += [argument, *rest]
            break
        name, separator, value = argument.partition("=")
        if name not in {"-y", "--config", "--set"}:
            left.append(argument)
            continue
        if not separator or name == "-y":
            value = next(rest, "") if argument == name else value
        if not value:
            raise ConfigError(f"{name} needs a value, such as " + _EXAMPLES[name])
        if name == "--set":
            assignments.append(value)
        else:
            environ[FILE_VARIABLE] = os.path.abspath(value)  # noqa: PTH100 - symlinks stay as they are
    if assignments:
        environ[SET_VARIABLE] = "\n".join(assignments)
    return left


_EXAMPLES = {"-y": "-y zarkov.yaml", "--config": "--config zarkov.yaml", "--set": "--set web_port=8082"}


def console() -> int:
    """Run the command `zarkov`."""
    return main(sys.argv)


def main(arguments: Sequence[str]) -> int:
    """Run one management command; a mistake in the configuration is one line on standard error and code 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
    end_with_parent()
    try:
        left = take_configuration(arguments, os.environ)
        load()[0].folder.prepare()
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one place where a person reads it
        return 1
    if left[1:] in (["--version"], ["version"]):
        print(__version__)  # noqa: T201 - Django would print its own
        return 0
    from django.core.management import execute_from_command_line

    execute_from_command_line(left)
    return 0
