"""The source files behind tasks: in which version they are, and that a process runs them as they are now.

Files of the project count, and those of the task's own package wherever it lies; those of the standard library and of
other installed packages do not, nor does what tasks are made of (`aggregates.task`).
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

_VERSION = "__zarkov_code_version__"  # the engine notes the same attribute, with the same meaning
_FRAMEWORK = frozenset({"aggregates.task"})
_LIBRARY = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STARTED = time.time()

Mark = tuple[int, int]  # time and size of a file
_lock = threading.RLock()
_files: dict[str, tuple[Mark, str]] = {}  # by path: its hash
_modules: dict[str, tuple[str, Mark, ModuleSource]] = {}
_reached: dict[tuple[tuple[str, str], ...], tuple[dict[str, Mark], CodeReach]] = {}


def task_version(roots: Iterable[tuple[str, str]]) -> str:
    """The version of all code that these, as (module, name), use; 16 hexadecimal digits. Executes nothing of it."""
    return _reach(roots).version()


def source_versions(roots: Iterable[tuple[str, str]]) -> dict[str, str]:
    """sha256 of the file of every module of the project that these use, which is what workers compare."""
    key = tuple(roots)
    home = _home(key)
    return {name: _hash(path) for name in _reach(key).modules() if (path := _path(name, home)) is not None}


def module_version(name: str) -> str:
    """sha256 of the source of `name` as this process runs it.

    A module whose file has changed since is imported anew, after those that it uses and that have changed, so that
    tasks follow their files in a process that lives long. Raises `TaskError` when it cannot be read or imported, or
    when a module has changed that cannot be imported twice, because it holds Django models.
    """
    path = _path(name, _home([(name, "")]))
    if path is None:
        raise TaskError(f"module {name} is not there; looked in {', '.join(filter(None, sys.path))}")
    with _lock:
        try:
            # Not sys.modules alone: another thread may be in the middle of importing it.
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
    """Import anew what has changed of `name` and of the modules that it uses, and what uses those."""
    found, home = _reach([(name, EVERYTHING)]), _home([(name, "")])
    anew: set[str] = set()
    for each in found.modules():
        module, path = sys.modules.get(each), _path(each, home)
        if module is None or path is None:
            continue
        version = _hash(path)
        if _loaded(module, path, version) != version or found.edges.get(each, set()) & anew:
            _import_anew(each, module)
            anew.add(each)
        setattr(sys.modules[each], _VERSION, version)


def _loaded(module: Any, path: str, version: str) -> str:
    """The version that this process has loaded; "" when the file was touched since, and nobody knows."""
    untouched = Path(path).stat().st_ctime < _STARTED
    return str(getattr(module, _VERSION, version if untouched else ""))


def _import_anew(name: str, module: Any) -> None:
    own = (held for held in vars(module).values() if isinstance(held, type) and held.__module__ == name)
    if any(hasattr(held, "_meta") for held in own):
        raise TaskError(f"module {name}, which a task uses, has changed, and holds Django models: restart this process")
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
    """The packages that hold the tasks."""
    return frozenset(module.partition(".")[0] for module, _ in roots)


def _load(name: str, home: frozenset[str]) -> ModuleSource | None:
    """The module cut into statements; None when it is no file of the project."""
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
    """The module's source file, when it is one of the project."""
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
