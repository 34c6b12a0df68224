"""`manage.py runbackend` accepts its arguments in any order, and refuses values that cannot work."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from ingest.management.commands.runbackend import Command
from ingest.metrics import Zibrato
from ingest.metrics.backend.interface import BackendOptions
from ingest.metrics.backend.log import LogBackend
from ingest.metrics.exceptions import BackendError
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("graphite --flush 1", "graphite"), ("--flush 1 graphite", "graphite"), ("--levels log graphite", "graphite"),
        ("--port 1 graphite --host h", "graphite"), ("--flush=1 --levels=info statsd --protocol tcp", "statsd"),
        ("--verbosity 2 librato", "librato"), ("unknown", None), ("--flush", None), ("", None),
    ],
)  # fmt: skip
def test_options_can_come_before_the_backends_name(line: str, name: str | None) -> None:
    command = Command()
    assert command._name(line.split()) == name


@pytest.mark.parametrize("flush_s", [float("nan"), float("inf"), 0.0, -1.0])
def test_an_impossible_flush_interval_is_refused(flush_s: float) -> None:
    with pytest.raises(BackendError, match="flush"):
        LogBackend(BackendOptions("tcp://127.0.0.1:1", (), flush_s))


@pytest.mark.parametrize("levels", [",", "", " , "])
def test_an_empty_list_of_levels_is_refused(levels: str) -> None:
    with pytest.raises(CommandError, match="levels"):
        call_command("runbackend", "log", levels=levels, broker="tcp://127.0.0.1:1")


def test_a_plugin_that_cannot_be_imported_is_one_error_that_names_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_plugin.py").write_text("raise ValueError('no licence')")
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zarkov.backends]\nfailing = failing_plugin:Backend\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "runbackend", "failing", "--user", "me"])
    assert ended.value.code == (
        "CommandError: backend 'failing' cannot be loaded from entry point 'failing_plugin:Backend' of group "
        "zarkov.backends: ValueError: no licence"
    )


@pytest.mark.parametrize("first", ["runbackend log --flush 0.2", "runbroker"])
def test_a_backend_and_a_broker_at_any_free_port_find_each_other_whatever_starts_first(
    tmp_path: Path, first: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZARKOV_")}
    environ = clean | {"ZARKOV_HOME": str(tmp_path / "home"), "ZARKOV_METRICS__PORT": "0", "PYTHONUNBUFFERED": "1"}
    home, output = HomeFolder(tmp_path / "home"), tmp_path / "output"
    started: list[subprocess.Popen[bytes]] = []

    def start(line: str, shown: str) -> None:
        with output.open("ab") as file:
            command = [sys.executable, str(REPOSITORY / "manage.py"), *line.split()]
            started.append(subprocess.Popen(command, env=environ, stdout=file, stderr=file))
        eventually(lambda: shown in output.read_text() or started[-1].poll() is not None, what=shown)
        assert shown in output.read_text()

    try:
        if first == "runbroker":
            start(first, "forwarding metrics")
            start("runbackend log --flush 0.2", "backend log listens at tcp://127.0.0.1:")
        else:
            start(first, "backend log waits for the broker to start")
            start("runbroker", "forwarding metrics")
        with contextlib.closing(Zibrato(address=lambda: home.address("metrics.publishers"), interval=0)) as zibrato:

            def arrives() -> bool:
                zibrato.send(mtype="Counter", name="found.each.other", value=1)
                return "found.each.other" in output.read_text()

            eventually(arrives, what=f"a measurement in {output.read_text()}")
    finally:
        for process in started:
            process.terminate()
        assert [process.wait(60) for process in started] == [0] * len(started)
