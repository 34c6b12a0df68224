"""Parse the options that all commands share, `-y/--config FILE` and `--set key=value`, and run Django's commands."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import MutableMapping, Sequence

from ingest import __version__
from zarkov_site.exceptions import ConfigError, SiteError
from zarkov_site.processes.process import end_with_parent


def move_options_to_environ(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str]:
    """Return `arguments` without `-y/--config FILE` and `--set key=value`, which go to `environ`.

    Child processes inherit them from the environment. Raise `ConfigError` if an option lacks its value.
    """
    from zarkov_site.config.source import FILE_VARIABLE, SET_VARIABLE  # here, so that Ctrl-C while importing is handled

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


_HELP_OPTIONS = {"-h", "--help"}
_EXAMPLES = {"-y": "-y zarkov.yaml", "--config": "--config zarkov.yaml", "--set": "--set web_port=8082"}


def console() -> int:
    """Run the command `zarkov`."""
    return main(sys.argv)


def main(arguments: Sequence[str]) -> int:
    """Run one management command. Return 1, with one line on standard error, for an error in the configuration.

    Ctrl-C ends it without a traceback at any time, also while modules are imported or the interpreter shuts down; so
    does a reader of its output that has seen enough, such as `head`.
    """
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()  # here, and not when the interpreter ends
    except BrokenPipeError:
        if not _drop_output_without_reader():
            raise
        return 128 + signal.SIGPIPE  # as shells report it
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as shells report it
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _drop_output_without_reader() -> bool:
    """Discard further standard output and error, if nobody reads the one or the other. Return whether that is so.

    Python writes the rest of its buffers when it exits, and would complain (its manual, signal, "Note on SIGPIPE").
    """
    outputs = select.poll()
    for output in (1, 2):
        outputs.register(output, 0)  # a pipe without a reader is in error
    closed = [output for output, event in outputs.poll(0) if event & select.POLLERR]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in closed:
        os.dup2(nowhere, output)
    os.close(nowhere)
    return bool(closed)


def _run(arguments: Sequence[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
    end_with_parent()
    try:
        left = move_options_to_environ(arguments, os.environ)
        if left[1:2] == ["version"] or "--version" in left[1:]:
            print(__version__)  # noqa: T201 - Django would print its own version
            return 0
        from zarkov_site.config.source import load

        config, _ = load()
        if left[1:2] not in ([], ["help"]) and _HELP_OPTIONS.isdisjoint(left):  # help writes nothing
            closed = config.folder.prepare()
            if closed:
                print(f"warning: {closed}", file=sys.stderr)  # noqa: T201 - before Django's output is set up
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - before Django's output is set up
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        what = f"{error.filename}: {error.strerror}: correct the setting that names it"
        print(f"error: {what}", file=sys.stderr)  # noqa: T201 - before Django's output is set up
        return 1
    from django.core.management import execute_from_command_line

    execute_from_command_line(left)
    return 0
