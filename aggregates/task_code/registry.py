"""Find the tasks in the allowed modules, and resolve dotted paths and function names to code.

Only `agg_tasks` of installed apps and `task_modules` of the configuration may hold tasks. A module that fails to
import affects only its own tasks.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregates.exceptions import TaskError, TaskRefusedError, known
from aggregates.task import REGISTERED, Task, has_period
from aggregates.task_code.code_version import module_version, task_version

REMEDY = (
    "put it into agg_tasks.py of an installed app, or name its module in task_modules "
    "(zarkov.yaml: `task_modules: [{module}]`, or ZARKOV_TASK_MODULES={module})"
)


@dataclass(frozen=True)
class TaskEntry:
    """A task that was found."""

    path: str  # dotted path, as in the task_name of an AggDef
    cls: type[Task]

    @property
    def code(self) -> str:
        """Return the version of the code that it uses; "" if its module is not imported."""
        module, _, name = self.path.rpartition(".")
        return task_version([(module, name)]) if module in sys.modules else ""

    @property
    def doc(self) -> str:
        """Return the first paragraph of the docstring, or ""."""
        return (inspect.getdoc(self.cls) or "").split("\n\n")[0] if self.cls.__doc__ else ""

    @property
    def has_period(self) -> bool:
        """Return True if ranges of it can be rebuilt."""
        return has_period(self.cls)


@dataclass(frozen=True)
class ModuleReport:
    """The tasks of one allowed module, or its import error."""

    name: str
    tasks: tuple[TaskEntry, ...]
    error: str = ""  # one line; "" if the import succeeded
    traceback: str = ""


def make_importable(folders: Iterable[Path]) -> None:
    """Append the folders to `sys.path` unless they are in it."""
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def discover(modules: Iterable[str]) -> list[ModuleReport]:
    """Return the tasks or the import error of each module, in order. Errors in the modules are not raised."""
    return [_report(name) for name in modules]


def _report(name: str) -> ModuleReport:
    try:
        module_version(name)
    except Exception as error:  # noqa: BLE001 - an error in a task file is reported, never raised
        cause = error.__cause__ or error
        shown = "".join(traceback.format_exception(cause))
        return ModuleReport(name, (), f"{type(cause).__name__}: {cause}", shown)
    held = list(vars(sys.modules[name]).values())
    entries = [TaskEntry(f"{name}.{cls.__qualname__}", cls) for cls in held if _is_task(cls, name)]
    return ModuleReport(name, tuple(dict.fromkeys(entries)))


def _is_task(candidate: Any, module: str) -> bool:
    if not (isinstance(candidate, type) and issubclass(candidate, Task)) or candidate is Task:
        return False
    return candidate.__module__ == module or vars(candidate).get(REGISTERED) is candidate


def allowed_module(path: str, modules: Iterable[str]) -> str:
    """Return the allowed module for the task with this dotted path. Raise `TaskRefusedError`. Imports nothing."""
    allowed = tuple(modules)
    module_name = max((m for m in allowed if path.startswith(f"{m}.")), key=len, default=None)
    if module_name is None:
        raise _outside(f"task_name {path!r}", path.rpartition(".")[0] or path, allowed)
    return module_name


def _outside(subject: str, module: str, allowed: Iterable[str]) -> TaskRefusedError:
    reason = f"is outside the modules that may hold tasks ({known(allowed)})"
    return TaskRefusedError(f"{subject} {reason}: {REMEDY.format(module=module)}")


def resolve(path: str, modules: Iterable[str]) -> type[Task]:
    """Return the task class with this dotted path.

    Raise `TaskRefusedError` for a path outside `modules`, and `TaskError` if the module cannot be imported or has no
    such task; the messages list what exists.
    """
    module_name = allowed_module(path, modules)
    report = _report(module_name)
    if report.error:
        raise TaskError(f"task_name {path!r}: module {module_name} fails to import: {report.error}")
    for entry in report.tasks:
        if entry.path == path:
            return entry.cls
    raise TaskError(
        f"task_name {path!r}: module {module_name} has no such task; it has {known(e.path for e in report.tasks)}"
    )


def function_name(function: Callable[..., Any] | str, modules: Iterable[str]) -> str:
    """Return the name by which workers find the function: `module:qualname`, for a method through its object's class.

    Raise `TaskError` for a lambda or nested function, which has no such name, and `TaskRefusedError` for a function
    outside `modules`.
    """
    allowed = tuple(modules)
    if isinstance(function, str):
        name = function
    elif isinstance(function, type) or not hasattr(function, "__qualname__"):
        raise TaskError(f"{function!r} is not a function: name a method of the task or a function of its module")
    elif (owner := getattr(function, "__self__", None)) is not None:
        cls = owner if isinstance(owner, type) else type(owner)
        name = f"{cls.__module__}:{cls.__qualname__}.{function.__name__}"
    else:
        name = f"{function.__module__}:{function.__qualname__}"
    module, separator, qualname = name.partition(":")
    if not separator or "<" in qualname:
        raise TaskError(
            f"{name} cannot be found by name in a worker: use a method of the task or a module-level function"
        )
    if module not in allowed:
        raise _outside(f"function {name}", module, allowed)
    return name


def load_function(name: str, params: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function with a name from `function_name`; a method is bound to a task created with `params`."""
    module, _, qualname = name.partition(":")
    target: Any = importlib.import_module(module)
    for part in qualname.split("."):
        target = target(**params) if isinstance(target, type) else target
        target = getattr(target, part)
    function: Callable[..., Any] = target
    return function
