"""The import rule: the cores never load Django, and layers import one way."""

from __future__ import annotations

import graphlib
import pkgutil
import subprocess
import sys

import grimp

import ingest
import mapreduce
from zarkov_site.config.config import REPOSITORY

EDGE = ("ingest.management", "ingest.http", "ingest.apps", "ingest.models", "ingest.migrations", "ingest.client_wheel")


def core_modules() -> list[str]:
    found = [package.__name__ for package in (ingest, mapreduce)]
    for package in (ingest, mapreduce):
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if not name.startswith(EDGE) and not name.endswith("__main__")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)


def test_core_modules_load_without_django() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {core_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        "    bad = {m for m in sys.modules if m.split('.')[0] in "
        "('django', 'rest_framework', 'celery', 'zarkov_site', 'aggregates')}\n"
        "    if bad:\n"
        "        sys.exit(f'{name} loads {sorted(bad)[:5]}')\n"
    )
    done = run(sys.executable, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_layers_hold() -> None:
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("zarkov_site", "aggregates", "ingest", "mapreduce", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError
