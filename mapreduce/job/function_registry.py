"""Functions that a job can name, and the versions of their modules.

A name `module:qualname` resolves only if the module is allowed by its exact name, and only to a function or class
that this module defines itself; nothing is reachable through an imported module. The router only parses the source
(`check`), so that task code runs in executors alone; executors import it (`resolve`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mapreduce.exceptions import CodeChangedError, FunctionRefusedError
from mapreduce.job.source_text import is_text, load_text, split_text
from mapreduce.task_error import described, is_of_task


class Registry:
    """Functions of a set of allowed modules. Belongs to one thread; imports modules on first use."""

    def __init__(self, allowed_modules: Iterable[str], *, allow_source: bool = False) -> None:
        self._allowed = frozenset(allowed_modules)
        self._allow_source = allow_source
        self._loaded: dict[str, str] = {}
        self._used: set[str] = set()  # modules in the `code` of jobs that are not allowed modules themselves

    def check(self, name: str) -> None:
        """Raise `FunctionRefusedError` unless the source of an allowed module defines `name`. Imports no task code."""
        if is_text(name):
            self._check_text(name)
            return
        module, qualname = self._split(name)
        defined = _top_level(self._source(module))
        first = qualname.split(".")[0]
        if first not in defined:
            raise FunctionRefusedError(
                f"function {name}: module {module} does not define {first!r}; it defines "
                f"{', '.join(sorted(defined)) or 'nothing'}"
            )

    def versions(self, names: Iterable[str]) -> dict[str, str]:
        """Return the sha256 of the source on disk of every module in `names`. Raise `FunctionRefusedError`."""
        found = {}
        for name in names:
            module = name.partition(":")[0]
            if module in self._used:
                found[module] = _on_disk(sys.modules[module])
            elif not is_text(name) and (module := self._split(name)[0]) not in found:
                found[module] = _sha256(self._source(module))
        return found

    def check_code(self, code: Mapping[str, str]) -> None:
        """Raise `CodeChangedError` if this process has loaded another version of a module of `code`.

        An allowed module that is not loaded yet is imported now, so that the code that was compared is the code that
        runs. Other modules are compared if the allowed ones have imported them, and never imported on their own.
        """
        here = {}
        for module in code:
            if module in self._allowed:
                self._import(module)
                here[module] = self._loaded[module]
        for module in code:
            if module not in self._allowed and (loaded := sys.modules.get(module)) is not None:
                here[module] = _loaded_version(loaded)
                self._used.add(module)
        for module, version in code.items():
            if here.get(module, version) != version:
                raise CodeChangedError(
                    f"module {module} is here in version {here[module][:12]}, but the job was accepted with "
                    f"{version[:12]}: give every worker the same code",
                    {"module": module, "here": here[module], "wanted": version},
                )

    def resolve(self, name: str, params: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the function called `name`; a method is bound to an instance made with `params`.

        Raise `FunctionRefusedError`, also if the module cannot be imported or the class cannot be instantiated.
        """
        if is_text(name):
            self._check_text(name)
            return load_text(name)
        module, qualname = self._split(name)
        found: Any = self._import(module)
        owner: type | None = None
        for part in qualname.split("."):
            found, owner = self._step(name, found, part), found if isinstance(found, type) else None
        if not callable(found):
            raise FunctionRefusedError(f"function {name}: {qualname} is a {type(found).__name__}, not a function")
        if owner is None:
            return found  # type: ignore[no-any-return]
        try:
            return getattr(owner(**params), qualname.rpartition(".")[2])  # type: ignore[no-any-return]
        except BaseException as error:
            if not is_of_task(error):
                raise
            raise FunctionRefusedError(
                f"function {name}: {owner.__name__}(**params) failed: {described(error)}"
            ) from error

    def _check_text(self, name: str) -> None:
        function, text = split_text(name)
        if not self._allow_source:
            raise FunctionRefusedError(
                f"source text of {function}: not allowed here (zmr.allow_source is off); name a function instead"
            )
        if function not in (defined := _top_level(text.encode())):
            known = ", ".join(sorted(defined)) or "nothing"
            raise FunctionRefusedError(
                f"source text of {function}: it does not define {function!r}; it defines {known}"
            )

    def _step(self, name: str, owner: Any, part: str) -> Any:
        try:
            found = inspect.getattr_static(owner, part)
        except AttributeError:
            raise FunctionRefusedError(f"function {name}: {part!r} is not defined") from None
        if isinstance(owner, type):
            if part.startswith("__"):
                raise FunctionRefusedError(f"function {name}: special methods are not allowed")
            return getattr(owner, part)  # a method may be inherited: the module defines the class itself
        module = name.partition(":")[0]
        if inspect.ismodule(found) or getattr(found, "__module__", None) != module:
            where = getattr(found, "__module__", type(found).__name__)
            raise FunctionRefusedError(f"function {name}: {part} comes from {where}; use what {module} defines")
        return found

    def _split(self, name: str) -> tuple[str, str]:
        module, separator, qualname = name.partition(":")
        if not separator or not qualname or not all(part.isidentifier() for part in qualname.split(".")):
            raise FunctionRefusedError(f"function {name!r}: must be module:name or module:Class.method")
        if module not in self._allowed:
            raise FunctionRefusedError(
                f"function {name}: module {module} is not allowed; use "
                f"{', '.join(sorted(self._allowed)) or 'none'} (add it to task_modules)"
            )
        return module, qualname

    def _import(self, module: str) -> Any:
        if module not in self._allowed:
            raise FunctionRefusedError(f"module {module} is not allowed")
        try:
            if module not in self._loaded:
                already = sys.modules.get(module)
                # Read before the import: a file saved in between then counts as different, never as equal.
                version = _sha256(self._source(module))
                loaded = already or importlib.import_module(module)
                self._loaded[module] = getattr(loaded, _VERSION, version)
                setattr(loaded, _VERSION, self._loaded[module])
            return sys.modules[module]
        except FunctionRefusedError:
            raise
        except BaseException as error:
            if not is_of_task(error):
                raise
            raise FunctionRefusedError(f"module {module} cannot be imported: {described(error)}") from error

    def _source(self, module: str) -> bytes:
        importlib.invalidate_caches()
        try:
            spec = importlib.util.find_spec(module)
            origin = spec.origin if spec else None
            if origin is None:
                raise FunctionRefusedError(
                    f"module {module} does not exist; searched {', '.join(filter(None, sys.path))}"
                )
            return Path(origin).read_bytes()
        except (ImportError, OSError, ValueError) as error:
            raise FunctionRefusedError(f"module {module} cannot be read: {error}") from error


_VERSION = "__zarkov_code_version__"
_STARTED = time.time()


def _loaded_version(module: Any) -> str:
    """Return the sha256 of the source from which a module was loaded, or "changed" if it cannot be known.

    It cannot be known if the file changed after this process started; a fresh process can tell. The inode's change
    time decides, because no program can set it.
    """
    if not hasattr(module, _VERSION):
        untouched = Path(module.__spec__.origin).stat().st_ctime < _STARTED
        setattr(module, _VERSION, _on_disk(module) if untouched else "changed")
    return str(getattr(module, _VERSION))


def _on_disk(module: Any) -> str:
    return _sha256(Path(module.__spec__.origin).read_bytes())


def code_version(module: str) -> str:
    """Return the sha256 of the source of `module` on disk. Raise `FunctionRefusedError` if it cannot be read."""
    return Registry((module,)).versions([f"{module}:x"])[module]


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


@lru_cache(maxsize=64)  # keyed by the source: a file is parsed once after each change, not for every job
def _top_level(source: bytes) -> frozenset[str]:
    """Return the names that a module defines at its top level by def, class or assignment, not by import."""
    names: set[str] = set()
    try:
        pending: list[ast.stmt] = list(ast.parse(source).body)
    except (SyntaxError, ValueError) as error:
        raise FunctionRefusedError(f"the module cannot be parsed: {error}") from error
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(t.id for t in targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            pending += node.body + getattr(node, "orelse", []) + getattr(node, "finalbody", [])
            pending += [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
    return frozenset(names)
