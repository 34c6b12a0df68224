"""The base class of all commands: an example in the help, errors as one line and an exit code, signals as a flag.

The work of a command belongs in the core of its app; the command turns arguments into a call and the result into an
exit code.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError, ProgrammingError
from pymongo.errors import PyMongoError

from ingest.management.stop_signal import stop_on_signals
from ingest.metrics import own_metrics
from ingest.metrics.wire import PUBLISHERS
from ingest.transport.client_keys import ClientKeys

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # as Python reads such bytes of a file system (PEP 383)
_NO_TABLES = ("no such table", "no such column", "does not exist")  # SQLite twice, PostgreSQL


class ZarkovCommand(BaseCommand):
    """Base class of all commands. A subclass sets `help` and `example` and implements `perform`.

    An error of Zarkov (with a stable `code` and `retryable`), of a database driver or about a file ends the command
    with one line on standard error and the error's `exit_code` (1 if it has none). Through `call_command`, the same
    error is raised as a `CommandError` with that text and `returncode`.
    """

    example: ClassVar[str] = ""
    long_running: ClassVar[bool] = False  # sets up logging, prints configuration warnings, turns signals into `stop`
    binds: ClassVar[bool] = False  # refuses to start if a socket would listen beyond loopback unasked
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return Django's parser with the example below the options."""
        if self.example:
            example = self.example.replace("manage.py", Path(prog_name).name, 1)
            kwargs.setdefault("epilog", f"example: {example}")
        return super().create_parser(prog_name, subcommand, **kwargs)

    def perform(self, options: dict[str, Any]) -> int | None:
        """Do the work. Return the exit code (None = 0), or raise an error that says what was wrong."""
        raise CommandError(f"{type(self).__module__} has no perform()")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run `perform` between the common steps, and exit if it returns a code other than 0."""
        try:
            code = self._handle_long_running(options) if self.long_running else self.perform(options)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except CommandError as error:
            error.args = (printable(name_program(str(error))),)
            raise
        except Exception as error:
            if options.get("traceback") or not is_known(error):
                raise
            raise CommandError(printable(one_line(error)), returncode=getattr(error, "exit_code", 1)) from error
        if code:
            sys.exit(code)

    def _handle_long_running(self, options: dict[str, Any]) -> int | None:
        set_up_logging(verbose=settings.ZARKOV.verbose or options.get("verbosity", 1) > 1)
        for warning in settings.ZARKOV_WARNINGS:
            self.stderr.write(f"warning: {warning}")
        if self.binds:
            settings.ZARKOV.refuse_exposure()
        with stop_on_signals() as self.stop:
            return self.perform(options)


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error, one line per record."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("pymongo", "kombu", "amqp", "asyncio", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def measure_own(source: str) -> None:
    """Measure this process under `source`, every `metrics.own_interval_s` seconds (0 = not at all)."""
    config = settings.ZARKOV
    own_metrics.measure(source, lambda: config.connect_address(PUBLISHERS), config.metrics.own_interval_s)


def add_keys_argument(parser: CommandParser) -> None:
    """Add `--keys`, the option of commands that connect to an ingester."""
    parser.add_argument(
        "--keys", metavar="FILE",
        help="CURVE keys to show the ingester (default: this installation's, if there are any; none: send without)",
    )  # fmt: skip


def sender_keys(file: str | None) -> ClientKeys | None:
    """Return the keys that `--keys` asks for, or None to send without. Raise `KeyFileError`."""
    if file is None:
        found: ClientKeys | None = settings.ZARKOV.client_keys()
        return found
    return None if file == "none" else ClientKeys.load(file)


def is_known(error: Exception) -> bool:
    """Return True for errors whose text is meant for a person: of Zarkov, of database drivers, and about files."""
    ours = isinstance(getattr(error, "code", None), str) and isinstance(getattr(error, "retryable", None), bool)
    return ours or isinstance(error, PyMongoError | OperationalError) or _lacks_tables(error) or _names_file(error)


def _names_file(error: Exception) -> bool:
    """Return True if the operating system refused something about a file, which the error names."""
    return isinstance(error, OSError) and isinstance(error.filename, str | os.PathLike) and bool(error.strerror)


def _lacks_tables(error: Exception) -> bool:
    """Return True if Django's database was never migrated, or not since an update."""
    return isinstance(error, OperationalError | ProgrammingError) and any(text in str(error) for text in _NO_TABLES)


def one_line(error: Exception) -> str:
    """Return the error's text on one line; that of MongoDB's driver ends before its topology dump."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PyMongoError):
        text = f"MongoDB: {text.split(', Topology Description:')[0].split(', full error:')[0]}"
    elif isinstance(error, OperationalError | ProgrammingError):
        text = f"Django's database: {text}"
    elif isinstance(error, OSError) and _names_file(error):
        text = f"{error.filename}: {error.strerror}: check what is there, its owner and mode, and the space on its disk"
    return name_program(f"{text}: run `manage.py migrate`" if _lacks_tables(error) else text)


def printable(text: str) -> str:
    """Return the text with bytes that are not UTF-8, such as those of a file's name, as `\\xe4`."""
    return _NOT_UTF_8.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


def name_program(text: str) -> str:
    """Return `text` with `zarkov` for `manage.py` if that is the command that runs, as after installing the wheel."""
    return text.replace("manage.py", "zarkov") if Path(sys.argv[0]).name == "zarkov" else text
