"""The common behaviour of commands."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db.utils import OperationalError, ProgrammingError
from pymongo.errors import ServerSelectionTimeoutError

from ingest.management.command import ZarkovCommand, one_line


class RefusedError(Exception):
    code = "refused"
    retryable = False
    exit_code = 2


def command(action: Any, **attributes: Any) -> ZarkovCommand:
    return type("Command", (ZarkovCommand,), {"perform": lambda self, options: action(), **attributes})()


def raises(error: BaseException) -> Any:
    def action() -> None:
        raise error

    return action


def test_a_known_error_is_one_line_with_its_exit_code() -> None:
    with pytest.raises(CommandError, match="no such thing") as caught:
        command(raises(RefusedError("no\nsuch thing"))).handle()
    assert caught.value.returncode == 2


def test_an_unknown_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 / 0).handle()


def test_an_error_about_a_file_is_one_line_that_names_it() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", "/var/lib/zarkov")
    with pytest.raises(CommandError, match=r"^/var/lib/zarkov: Permission denied: check what is there, its owner"):
        command(raises(refused)).handle()


def test_an_error_of_the_system_that_names_no_file_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        command(raises(OSError(errno.EBADF, "Bad file descriptor"))).handle()


def test_ctrl_c_ends_a_short_command_with_130() -> None:
    with pytest.raises(SystemExit) as caught:
        command(raises(KeyboardInterrupt())).handle()
    assert caught.value.code == 130


def test_a_returned_code_is_the_exit_code() -> None:
    with pytest.raises(SystemExit) as caught:
        command(lambda: 3).handle()
    assert caught.value.code == 3
    command(lambda: None).handle()


def test_a_driver_error_is_cut_before_its_topology() -> None:
    error = ServerSelectionTimeoutError("no server, Timeout: 1s, Topology Description: <long>")
    assert one_line(error) == "MongoDB: no server, Timeout: 1s"


def test_a_database_without_tables_is_one_line_with_the_remedy() -> None:
    for error in (
        OperationalError("no such table: aggregates_aggdef"),
        ProgrammingError('relation "aggregates_aggdef" does not exist\nLINE 1: SELECT'),
    ):
        with pytest.raises(CommandError, match=r"^Django's database: .*aggregates_aggdef.*: run `manage.py migrate`$"):
            command(raises(error)).handle()
    with pytest.raises(CommandError, match=r"^Django's database: connection refused$"):
        command(raises(OperationalError("connection refused"))).handle()
    with pytest.raises(ProgrammingError):  # a mistake of ours
        command(raises(ProgrammingError("syntax error"))).handle()


def test_the_help_ends_with_the_example() -> None:
    parser = command(lambda: None, example="manage.py x").create_parser("manage.py", "x")
    assert parser.format_help().rstrip().endswith("example: manage.py x")


@pytest.mark.parametrize(("program", "named"), [("/usr/bin/zarkov", "zarkov"), ("manage.py", "manage.py")])
def test_hints_name_the_program_that_runs(program: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [program])
    assert one_line(OperationalError("no such table: x")).endswith(f"run `{named} migrate`")
    with pytest.raises(CommandError, match=f"^run {named} token first$"):
        command(raises(CommandError("run manage.py token first"))).handle()
