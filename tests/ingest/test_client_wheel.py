"""The client wheel, installed without the rest and used by a program that has only pyzmq and pymongo."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pymongo.database import Database

import ingest
from tests.support.ingest.running import RunningIngester
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:4]
from zarkov.client import AcknowledgedClient, ZarkovClient
with ZarkovClient(sys.argv[4], timeout_s=20) as client:
    client.event("pushed", {"from": "the wheel"})
with AcknowledgedClient(sys.argv[5], spool=sys.argv[6], connect_timeout_s=20, timeout_s=20) as client:
    assert client.event("sent", {}).accepted == 1
from zibrato import MetricError, RequestTimer, Zibrato, measure_tasks
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


SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"


def copied(folder: Path) -> Path:
    """Return a copy of the sources in `folder`, with a module that an earlier build has left."""
    sources = folder / "ingest"
    shutil.copytree(REPOSITORY / "ingest", sources, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    stale = sources / "build" / "lib" / "zarkov" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return sources


def build(sources: Path, folder: Path) -> Path:
    """Return the client wheel, built in `folder` from a source folder or an sdist."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [*PIP, "wheel", *options, str(sources)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=240)
    return next(folder.glob("zarkov_client-*.whl"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    return build(copied(folder), folder)


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


def test_the_wheel_works_in_a_program_without_the_server(
    built: Path, ingester: RunningIngester, database: Database[Any], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    install = [*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(target), str(built)]
    subprocess.run(install, check=True, timeout=240)
    places = [str(target), site_of("zmq", tmp_path / "zmq"), site_of("bson", tmp_path / "bson")]
    receivers = [ingester.address("bson"), ingester.address("ack"), str(tmp_path / "spool")]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, *places, *receivers],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: sorted(event["type"] for event in database["event"].find()) == ["pushed", "sent"])


def test_the_wheel_holds_what_a_client_can_import_and_nothing_else(built: Path) -> None:
    trees = modules(built)
    reached: set[str] = set()
    waiting = ["zarkov.client", "zarkov.client.health_probe", "zibrato"]
    waiting += [f"zibrato.{name}" for name in ("zibrato", "request_timer", "task_timer", "exceptions")]  # loaded lazily
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [found for found in imported(name, trees) if found in trees]
            waiting += [name.rpartition(".")[0]] if "." in name else []
    assert set(trees) == reached
    outside = {found.split(".")[0] for name in trees for found in imported(name, trees)} - {"zarkov", "zibrato"}
    assert outside - set(sys.stdlib_module_names) == {"zmq", "bson", "gevent", "django", "celery"}


def modules(built: Path) -> dict[str, ast.Module]:
    """The syntax tree of each module of a wheel, by name."""
    with zipfile.ZipFile(built) as files:
        paths = [PurePosixPath(name) for name in files.namelist() if name.endswith(".py")]
        return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): ast.parse(files.read(str(path)))
                for path in paths}  # fmt: skip


def imported(name: str, trees: dict[str, ast.Module]) -> set[str]:
    """Full names of everything that a module of the wheel imports, submodules as well as what is in them."""
    package = name if any(other.startswith(f"{name}.") for other in trees) else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    assert build(copied(tmp_path), tmp_path).read_bytes() == built.read_bytes()


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    sdist = [sys.executable, "-P", "-c", SDIST, str(tmp_path)]
    subprocess.run(sdist, cwd=copied(tmp_path), check=True, timeout=240)
    again = build(tmp_path / f"zarkov_client-{ingest.__version__}.tar.gz", tmp_path)
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(built).namelist()


def test_the_wheel_has_its_license_and_a_description(built: Path) -> None:
    with zipfile.ZipFile(built) as files:
        info = f"zarkov_client-{ingest.__version__}.dist-info"
        assert files.read(f"{info}/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_bytes()
        assert "\n# Clients of Zarkov\n" in files.read(f"{info}/METADATA").decode()


def test_the_version_is_in_one_place(built: Path) -> None:
    assert built.name == f"zarkov_client-{ingest.__version__}-py3-none-any.whl"
