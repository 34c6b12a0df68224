"""`-y/--config` and `--set` on every command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import __version__
from tests.support import command
from zarkov_site.command_line import move_options_to_environ
from zarkov_site.config.config import REPOSITORY
from zarkov_site.exceptions import ConfigError

pytestmark = pytest.mark.early


def manage(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return command.manage(*arguments, environ=environ)


def test_configuration_options_are_recognized_anywhere_on_the_command_line() -> None:
    environ: dict[str, str] = {"ZARKOV_SET": "incremental=1"}
    arguments = ["manage.py", "--set", "web_port=1", "up", "-y", "a.yaml", "--set=verbose=true", "--", "--set"]
    assert move_options_to_environ(arguments, environ) == ["manage.py", "up", "--", "--set"]
    assert environ["ZARKOV_SET"].splitlines() == ["incremental=1", "web_port=1", "verbose=true"]
    assert environ["ZARKOV_CONFIG"] == str(Path.cwd() / "a.yaml")


@pytest.mark.parametrize("arguments", [["up", "--set"], ["up", "-y"], ["up", "--config="]])
def test_an_option_without_its_value_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a value, such as"):
        move_options_to_environ(arguments, {})


def test_checkconfig_shows_valid_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("web_port: 4711")
    done = manage("checkconfig", "--show", "-y", str(tmp_path / "mine.yaml"), "--set", "zmr.reduce_count=5")
    assert done.returncode == 0, done.stderr
    assert "web_port = 4711" in done.stdout
    assert "zmr.reduce_count = 5" in done.stdout


def test_the_sqlite_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    assert manage("checkconfig", "--set", f"home={tmp_path}", DATABASE_URL="sqlite://:memory:").returncode == 0
    assert not (tmp_path / "zarkov.sqlite3").exists()
    assert manage("checkconfig", "--set", f"home={tmp_path}").returncode == 0
    assert stat.S_IMODE((tmp_path / "zarkov.sqlite3").stat().st_mode) == 0o600


def test_checkconfig_warns_of_exposed_sockets_but_succeeds() -> None:
    done = manage("checkconfig", "--set", "bson_bind_address=tcp://0.0.0.0:6543")
    assert done.returncode == 0
    assert "warning: bson_bind_address = tcp://0.0.0.0:6543 listens beyond loopback" in done.stderr


def test_a_mistake_is_reported_in_one_line_with_exit_code_1() -> None:
    done = manage("checkconfig", ZARKOV_WEB_PORT="many")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: web_port: 'many' is not allowed (environment variable ZARKOV_WEB_PORT)")


@pytest.mark.parametrize(
    "arguments", [["--version"], ["version"], ["up", "--version"], ["help"], ["help", "up"], ["up", "--help"], []]
)
def test_version_and_help_write_nothing(tmp_path: Path, arguments: list[str]) -> None:
    done = manage(*arguments, ZARKOV_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert (f"{__version__}\n" if "version" in " ".join(arguments) else "up") in done.stdout
    assert not list(tmp_path.iterdir())


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("module", ["yaml", "dj_database_url"])
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(INTERRUPT)
    done = manage("checkconfig", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_interpreter_shuts_down_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"import atexit; atexit.register(lambda: exec({INTERRUPT!r}))")
    done = manage("shell", "-c", "import mine", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_the_shell_provides_db(mongo_uri: str) -> None:
    code = "db.nop.insert_one({'_id': 1}); print('found', db.nop.find_one()); db.nop.drop()"
    done = manage("shell", "-c", code, ZARKOV_MONGO_URI=mongo_uri, ZARKOV_MONGO_DATABASE="test_shell")
    assert "found {'_id': 1}" in done.stdout, done.stderr


def test_an_unusable_home_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "run").write_text("")
    for home, what in (("file", "file"), ("file/below", "file/below"), ("circle", "circle"), ("home", "home/run")):
        done = manage("initdb", ZARKOV_HOME=str(tmp_path / home))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"home {tmp_path / home} cannot be used ({tmp_path / what}: " in done.stderr


def test_a_path_that_no_system_takes_is_reported_in_one_line(tmp_path: Path) -> None:
    done = manage("checkconfig", ZARKOV_HOME=str(tmp_path / ("n" * 300)))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File name too long: correct the setting that names it" in done.stderr


@pytest.mark.parametrize("unusable", ["keys", "log", "mongo"])
@pytest.mark.parametrize("dangling", [False, True])
def test_something_else_in_place_of_a_folder_of_home_is_reported_in_one_line(
    tmp_path: Path, unusable: str, dangling: bool
) -> None:
    path = tmp_path / unusable
    path.symlink_to("/proc/nonexistent") if dangling else path.write_text("")
    done = manage("up", ZARKOV_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"home {tmp_path} cannot be used ({path}: Not a directory): " in done.stderr


@pytest.mark.parametrize("arguments", [["help"], ["version"], ["checkconfig"]])
@pytest.mark.parametrize("stderr", [subprocess.PIPE, subprocess.STDOUT])
def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path, arguments: list[str], stderr: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=REPOSITORY, stdout=writer, stderr=stderr, timeout=60,
            env={**os.environ, "ZARKOV_HOME": str(tmp_path)}, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert ended.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in (ended.stderr or b"").decode()
    assert "BrokenPipe" not in (ended.stderr or b"").decode()
