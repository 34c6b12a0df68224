"""The client wheel, installed without the rest and used by a program that has only pyzmq and pymongo."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from ingest import wheel
from tests.ingest.conftest import RunningIngester, wait_for
from zarkov_site.config.config import REPOSITORY

PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:4]
from zarkov.client import AcknowledgedClient, ZarkovClient
with ZarkovClient(sys.argv[4]) as client:
    client.event("pushed", {"from": "the wheel"})
with AcknowledgedClient(sys.argv[5], spool=sys.argv[6]) as client:
    assert client.event("sent", {}).accepted == 1
from zibrato import Zibrato
import zibrato
assert Zibrato.__module__.startswith("zibrato"), Zibrato.__module__
allowed = {"zarkov", "zibrato", "zmq", "bson"}
loaded = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
strange = {name for name in loaded if not name.startswith("_")} - allowed
assert not strange & {"ingest", "aggregates", "mapreduce", "django", "gevent"}, strange
outside = {name: module.__file__ for name, module in sys.modules.items()
           if name.split(".")[0] in ("zarkov", "zibrato") and not module.__file__.startswith(sys.argv[1])}
assert not outside, outside
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(REPOSITORY, tmp_path_factory.mktemp("dist"))


def site_of(name: str, folder: Path) -> str:
    """A folder with nothing but the package `name` of this environment."""
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    folder.mkdir()
    (folder / name).symlink_to(package)
    for libraries in package.parent.glob("pyzmq.libs"):
        (folder / libraries.name).symlink_to(libraries)
    return str(folder)


def test_the_wheel_works_without_the_server_in_a_program_of_its_own(
    built: Path, ingester: RunningIngester, database: Database[Any], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, "--no-compile", "--target", str(target), str(built)], check=True, timeout=60)
    places = [str(target), site_of("zmq", tmp_path / "zmq"), site_of("bson", tmp_path / "bson")]
    receivers = [ingester.address("bson"), ingester.address("ack"), str(tmp_path / "spool")]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, *places, *receivers],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: sorted(event["type"] for event in database["event"].find()) == ["pushed", "sent"])


def test_only_what_the_client_imports_is_in_it(built: Path) -> None:
    names = zipfile.ZipFile(built).namelist()
    assert {"zarkov/client.py", "zarkov/spool.py", "zarkov/py.typed", "zibrato/__init__.py"} <= set(names)
    server = {"ingester", "journal", "store", "commit", "door", "management", "broker"}
    assert not {Path(name).stem for name in names} & server
    assert "ingest" not in imported(built)


def imported(built: Path) -> set[str]:
    with zipfile.ZipFile(built) as files:
        trees = [ast.parse(files.read(name)) for name in files.namelist() if name.endswith(".py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in names}


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    assert wheel.build(REPOSITORY, tmp_path).read_bytes() == built.read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from . import client", "relative imports"),
        ("import ingest.client", "write `from ingest.client import"),
        ("from ingest import client, metrics", "import them apart"),
        ("from ingest.nothing import x", "no module ingest.nothing"),
    ],
)
def test_an_import_that_cannot_be_mapped_is_named(tmp_path: Path, line: str, said: str) -> None:
    metrics = tmp_path / "ingest" / "metrics"
    metrics.mkdir(parents=True)
    for path in (tmp_path / "ingest", metrics):
        (path / "__init__.py").write_text("")
    (tmp_path / "ingest" / "client.py").write_text("")
    (metrics / "zibrato.py").write_text(line)
    (tmp_path / "pyproject.toml").write_bytes((REPOSITORY / "pyproject.toml").read_bytes())
    (tmp_path / "LICENSE").write_text("")
    with pytest.raises(wheel.WheelError, match=said):
        wheel.build(tmp_path, tmp_path / "dist")
