"""Import rules: the cores never load Django, and layers import in one direction."""

from __future__ import annotations

import ast
import graphlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)


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


def test_import_contracts_are_kept() -> None:
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_no_import_cycles() -> None:
    graph = grimp.build_graph("zarkov_site", "aggregates", "ingest", "mapreduce", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names of all modules that a file imports; for `from a import b`, both `a` and `a.b`."""
    package = ".".join(path.parent.relative_to(REPOSITORY).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            before = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*before, *filter(None, [node.module])])
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def test_tests_import_shared_code_only_from_support() -> None:
    """Check that no test module or conftest is imported: it could not be moved or run alone."""
    offenders = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for name in imported(path)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith(("test_", "conftest"))
    ]
    assert offenders == []


# They test a server or a connection itself, or a whole system.
_OWN_CLIENTS = ("support/mongo.py", "ingest/store/test_store.py", "zarkov_site/", "bench/")


def test_tests_read_mongodb_with_the_concern_of_the_product() -> None:
    """Use `tests.support.mongo.open_client`: a read without `majority` can find data that the code does not see yet."""
    offenders = []
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = [func.value if isinstance(func, ast.Subscript) else func for func in calls]
        makes = any(isinstance(name, ast.Name) and name.id == "MongoClient" for name in names)
        if makes and not str(path.relative_to(REPOSITORY / "tests")).startswith(_OWN_CLIENTS):
            offenders.append(str(path))
    assert offenders == []
