"""Determine the version of the source files behind tasks, and reload changed ones in a running process.

Files of the project count, and those of the task's own package wherever it is installed. The standard library, other
installed packages and `aggregates.task` itself do not.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from aggregates.exceptions import TaskError
from aggregates.task_code.code_reach import EVERYTHING, CodeReach, ModuleSource, parse, reach

_VERSION = "__zarkov_code_version__"  # the engine sets the same attribute
_FRAMEWORK = frozenset({"aggregates.task"})
_LIBRARY = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STARTED = time.time()

Mark = tuple[int, int]  # mtime in ns and size of a file
_lock = threading.RLock()
_files: dict[str, tuple[Mark, str]] = {}  # sha256 by path
_modules: dict[str, tuple[str, Mark, ModuleSource]] = {}
_reached: dict[tuple[tuple[str, str], ...], tuple[dict[str, Mark], CodeReach]] = {}


def task_version(roots: Iterable[tuple[str, str]]) -> str:
    """Return the version of all code that `roots`, as (module, name), use; 16 hexadecimal digits. Runs none of it."""
    return _reach(roots).version()


def source_versions(roots: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the sha256 of the file of every project module that `roots` use; workers compare these."""
    key = tuple(roots)
    home = _home(key)
    return {name: _hash(path) for name in _reach(key).modules() if (path := _path(name, home)) is not None}


def module_version(name: str) -> str:
    """Import `name` if needed, and return the sha256 of its source as this process runs it.

    Modules whose files have changed are reloaded, each after the changed modules that it uses, so that long-running
    processes follow their files. Raises `TaskError` if the module cannot be read or imported, or if a changed module
    cannot be reloaded because it holds Django models.
    """
    path = _path(name, _home([(name, "")]))
    if path is None:
        raise TaskError(f"module {name} was not found; searched {', '.join(filter(None, sys.path))}")
    with _lock:
        try:
            # sys.modules alone is not enough: another thread may still be importing it.
            known = name in sys.modules
            module = importlib.import_module(name)
            if not known:
                setattr(module, _VERSION, _hash(path))
            _follow_files(name)
        except TaskError:
            raise
        except Exception as error:
            raise TaskError(f"module {name} fails to import: {type(error).__name__}: {error}") from error
        return _hash(path)


def _follow_files(name: str) -> None:
    """Reload whatever has changed among `name` and the modules that it uses, and the modules that use those."""
    found, home = _reach([(name, EVERYTHING)]), _home([(name, "")])
    reloaded: set[str] = set()
    for each in found.modules():
        module, path = sys.modules.get(each), _path(each, home)
        if module is None or path is None:
            continue
        version = _hash(path)
        if _loaded(module, path, version) != version or found.edges.get(each, set()) & reloaded:
            _reload(each, module)
            reloaded.add(each)
        setattr(sys.modules[each], _VERSION, version)


def _loaded(module: Any, path: str, version: str) -> str:
    """Return the version that this process has loaded; "" if unknown because the file was touched since."""
    untouched = Path(path).stat().st_ctime < _STARTED
    return str(getattr(module, _VERSION, version if untouched else ""))


def _reload(name: str, module: Any) -> None:
    own = (held for held in vars(module).values() if isinstance(held, type) and held.__module__ == name)
    if any(hasattr(held, "_meta") for held in own):
        raise TaskError(f"module {name}, which a task uses, has changed and holds Django models: restart this process")
    importlib.reload(module)


def _reach(roots: Iterable[tuple[str, str]]) -> CodeReach:
    key = tuple(sorted(set(roots)))
    home = _home(key)
    with _lock:
        cached = _reached.get(key)
        if cached is not None and all(_mark_of(name, home) == mark for name, mark in cached[0].items()):
            return cached[1]
        found = reach(key, lambda name: _load(name, home))
        marks = {name: mark for name in found.names if (mark := _mark_of(name, home)) is not None}
        _reached[key] = (marks, found)
        return found


def _home(roots: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the packages that hold the tasks."""
    return frozenset(module.partition(".")[0] for module, _ in roots)


def _load(name: str, home: frozenset[str]) -> ModuleSource | None:
    """Return the module split into statements; None if it is not a project file."""
    path = _path(name, home)
    if path is None or name in _FRAMEWORK:
        return None
    mark = _mark(path)
    cached = _modules.get(name)
    if cached is None or cached[:2] != (path, mark):
        try:
            module = parse(name, Path(path).read_text(encoding="utf-8"), package=path.endswith("__init__.py"))
        except (SyntaxError, ValueError) as error:
            raise TaskError(f"module {name} cannot be read: {error}") from error
        cached = _modules[name] = (path, mark, module)
    return cached[2]


def _path(name: str, home: frozenset[str]) -> str | None:
    """Return the module's source file; None if it is not a project file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return spec.origin if name.partition(".")[0] in home or _of_project(spec.origin) else None


@lru_cache(maxsize=10_000)
def _of_project(origin: str) -> bool:
    path = Path(origin).resolve()
    return not _INSTALLED & set(path.parts) and not any(path.is_relative_to(library) for library in _LIBRARY)


def _mark_of(name: str, home: frozenset[str]) -> Mark | None:
    path = _path(name, home)
    return _mark(path) if path is not None else None


def _mark(path: str) -> Mark:
    stat = Path(path).stat()
    return stat.st_mtime_ns, stat.st_size


def _hash(path: str) -> str:
    mark = _mark(path)
    with _lock:
        cached = _files.get(path)
        if cached is None or cached[0] != mark:
            cached = _files[path] = (mark, hashlib.sha256(Path(path).read_bytes()).hexdigest())
        return cached[1]
