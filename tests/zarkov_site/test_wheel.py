"""The wheel, installed without a checkout, runs everything that `make run` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from ingest import __version__
from tests.support.system import running
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

pytestmark = pytest.mark.early

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
DEFINE = "AggDef.objects.create(name='kinds', task_name='aggregates.agg_tasks.EventsByType', realtime=True)"
SOURCES = ("zarkov_site", "ingest", "mapreduce", "aggregates", "templates", "node_modules/uplot")
STRAY = (  # what lies about in a checkout and belongs in no wheel
    "ingest_old/__init__.py",
    "ingest/build/lib/zarkov/gone.py",
    "build/lib/aggregates/gone.py",
    "aggregates/notes/gone.py",
    "aggregates/static/zarkov/chart.js~",
    "templates/zarkov/base.html~",
)
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the wheel is built from, with stray files in it."""
    folder = tmp_path_factory.mktemp("sources")
    left_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=left_out)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "package.json"):
        shutil.copy(REPOSITORY / name, folder)
    for name in STRAY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def build(sources: Path, folder: Path) -> Path:
    """Return the wheel, built in `folder` from a source folder or an sdist."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*PIP, "wheel", *options, str(sources)], check=True, timeout=240)
    return folder / f"zarkov-{__version__}-py3-none-any.whl"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as files:
        return sorted(files.namelist())


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def program(wheel: Path) -> Path:
    """Return the command `zarkov` of an environment that has the wheel and this environment's libraries."""
    folder = wheel.parent
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=240)
    install = [*PIP, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=240)
    libraries = sysconfig.get_path("purelib")  # only its packages, not its .pth file, which points to this checkout
    (Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")) / "libraries.pth").write_text(
        f"import sys; sys.path.append({libraries!r})\n"
    )
    return python.with_name("zarkov")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ZARKOV_", "PYTHON", "DJANGO_"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_prints_its_version_and_has_its_home_in_the_current_folder(program: Path, tmp_path: Path) -> None:
    assert run(program, "--version", cwd=tmp_path) == __version__
    assert "usage: zarkov" in run(program, "up", "--help", cwd=tmp_path)
    assert "example: zarkov up" in run(program, "up", "--help", cwd=tmp_path)
    run(program, "checkconfig", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["var"]
    code = "import ingest, zarkov_site; print(ingest.__file__, zarkov_site.__file__)"
    assert str(REPOSITORY) not in run(program.with_name("python"), "-c", code, cwd=tmp_path)


def test_up_in_an_empty_folder_serves_a_live_chart(program: Path, tmp_path: Path) -> None:
    with running(tmp_path / "var", "--no-sample", cwd=tmp_path, program=[str(program)]) as system:
        assert "`zarkov token NAME" in system.output
        subprocess.run(system.curl_line(), shell=True, check=True, timeout=60, capture_output=True)
        define = [program, "shell", "-c", DEFINE]
        subprocess.run(define, cwd=tmp_path, env=system.environ, check=True, timeout=240, capture_output=True)
        eventually(lambda: '"hello"' in system.get("q?a=%7B%22c%22:%22kinds%22%7D"))
        page = system.get("aggregates/kinds/")
        assert f"Zarkov {__version__}" in page
        assert "uPlot" in system.get("static/npm/uplot/uPlot.esm.js")
        assert f'"version":"{__version__}"' in system.get("api/v1/").replace(" ", "")


def test_the_wheel_holds_licenses_and_types_and_nothing_stray(wheel: Path) -> None:
    held = names(wheel)
    assert {"zarkov_site/node_modules/uplot/LICENSE", f"zarkov-{__version__}.dist-info/licenses/LICENSE"} <= set(held)
    assert {f"{package}/py.typed" for package in SOURCES[:4]} <= set(held)
    assert {name.partition("/")[0] for name in held} == {*SOURCES[:4], f"zarkov-{__version__}.dist-info"}
    assert [name for name in held if "gone" in name or "client_wheel" in name or name.endswith("~")] == []


def test_the_sdist_builds_the_same_wheel(wheel: Path, sources: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-P", "-c", SDIST, str(tmp_path)], cwd=sources, check=True, timeout=240)
    assert names(build(tmp_path / f"zarkov-{__version__}.tar.gz", tmp_path)) == names(wheel)
