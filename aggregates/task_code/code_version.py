"""Determine the version of the source files behind tasks, and reload changed ones in a running process.

Files of the project count, and those of the task's own package wherever it is installed. The standard library, other
installed packages and what tasks import from Zarkov (`aggregates.task`, `aggregates.period`) do not.
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
from aggregates.task_code.used_code import WHOLE_MODULE, ModuleSource, UsedCode, find_used_code, parse
from mapreduce.task_error import described, is_of_task

_VERSION = "__zarkov_code_version__"  # the engine sets the same attribute
_FRAMEWORK = frozenset({"aggregates.task", "aggregates.period", "aggregates.clock"})
_LIBRARY = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STARTED = time.time()

FileStamp = tuple[int, int]  # mtime in ns and size of a file
_lock = threading.RLock()
_files: dict[str, tuple[FileStamp, str]] = {}  # sha256 by path
_modules: dict[str, tuple[str, FileStamp, ModuleSource]] = {}
_used_code_cache: dict[tuple[tuple[str, str], ...], tuple[dict[str, FileStamp], UsedCode]] = {}


def task_version(roots: Iterable[tuple[str, str]]) -> str:
    """Return the version of all code that `roots`, as (module, name), use; 16 hexadecimal digits. Runs none of it."""
    return _used_code(roots).version()


def source_versions(roots: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the sha256 of the file of every project module that `roots` use; workers compare these."""
    key = tuple(roots)
    packages = _task_packages(key)
    return {name: _hash(path) for name in _used_code(key).modules() if (path := _path(name, packages)) is not None}


def module_version(name: str) -> str:
    """Import `name` if needed, and return the sha256 of its source as this process runs it.

    Modules whose files have changed are reloaded, each after the changed modules that it uses, so that long-running
    processes follow their files. Raise `TaskError` if the module cannot be read or imported, or if a changed module
    cannot be reloaded because it holds Django models.
    """
    path = _path(name, _task_packages([(name, "")]))
    if path is None:
        raise TaskError(f"module {name} was not found; searched {', '.join(filter(None, sys.path))}")
    with _lock:
        try:
            # sys.modules alone is not enough: another thread may still be importing it.
            known = name in sys.modules
            module = importlib.import_module(name)
            if not known:
                setattr(module, _VERSION, _hash(path))
            _reload_changed(name)
        except TaskError:
            raise
        except BaseException as error:
            if not is_of_task(error):
                raise
            raise TaskError(f"module {name} fails to import: {described(error)}") from error
        return _hash(path)


def _reload_changed(name: str) -> None:
    """Reload whatever has changed among `name` and the modules that it uses, and the modules that use those."""
    found, packages = _used_code([(name, WHOLE_MODULE)]), _task_packages([(name, "")])
    reloaded: set[str] = set()
    for each in found.modules():
        module, path = sys.modules.get(each), _path(each, packages)
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


def _used_code(roots: Iterable[tuple[str, str]]) -> UsedCode:
    key = tuple(sorted(set(roots)))
    packages = _task_packages(key)
    with _lock:
        cached = _used_code_cache.get(key)
        if cached is not None and all(_stamp_of(name, packages) == stamp for name, stamp in cached[0].items()):
            return cached[1]
        found = find_used_code(key, lambda name: _load(name, packages))
        stamps = {name: stamp for name in found.names if (stamp := _stamp_of(name, packages)) is not None}
        _used_code_cache[key] = (stamps, found)
        return found


def _task_packages(roots: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(module.partition(".")[0] for module, _ in roots)


def _load(name: str, packages: frozenset[str]) -> ModuleSource | None:
    """Return the module split into statements; None if it is not a project file."""
    path = _path(name, packages)
    if path is None or name in _FRAMEWORK:
        return None
    stamp = _stamp(path)
    cached = _modules.get(name)
    if cached is None or cached[:2] != (path, stamp):
        try:
            module = parse(name, Path(path).read_text(encoding="utf-8"), package=path.endswith("__init__.py"))
        except (SyntaxError, ValueError) as error:
            raise TaskError(f"module {name} cannot be read: {error}") from error
        cached = _modules[name] = (path, stamp, module)
    return cached[2]


def _path(name: str, packages: frozenset[str]) -> str | None:
    """Return the module's source file; None if it is not a project file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return spec.origin if name.partition(".")[0] in packages or _is_project_file(spec.origin) else None


@lru_cache(maxsize=10_000)
def _is_project_file(origin: str) -> bool:
    path = Path(origin).resolve()
    return not _INSTALLED & set(path.parts) and not any(path.is_relative_to(library) for library in _LIBRARY)


def _stamp_of(name: str, packages: frozenset[str]) -> FileStamp | None:
    path = _path(name, packages)
    return _stamp(path) if path is not None else None


def _stamp(path: str) -> FileStamp:
    stat = Path(path).stat()
    return stat.st_mtime_ns, stat.st_size


def _hash(path: str) -> str:
    stamp = _stamp(path)
    with _lock:
        cached = _files.get(path)
        if cached is None or cached[0] != stamp:
            cached = _files[path] = (stamp, hashlib.sha256(Path(path).read_bytes()).hexdigest())
        return cached[1]
