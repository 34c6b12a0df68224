from __future__ import annotations

import hashlib
import importlib
import sys
import time
from pathlib import Path

import pytest

from mapreduce.exceptions import CodeChangedError, FunctionRefusedError
from mapreduce.job.function_registry import Registry, code_version
from tests.support.mapreduce import tasks

NAME = "tests.support.mapreduce.tasks"


@pytest.fixture
def registry() -> Registry:
    return Registry([NAME])


def test_a_function_of_an_allowed_module_resolves(registry: Registry) -> None:
    registry.check(f"{NAME}:add")
    assert registry.resolve(f"{NAME}:add", {}) is tasks.add


def test_a_method_is_bound_to_an_instance_made_with_the_params(registry: Registry) -> None:
    registry.check(f"{NAME}:Weighted.map")
    bound = registry.resolve(f"{NAME}:Weighted.map", {"weight": 3})
    assert list(bound([{"type": "x"}])) == [("x", 3)]


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "tests.support.mapreduce:tasks",
        f"{NAME}:os.system",
        f"{NAME}:time.sleep",
        f"{NAME}:Path",
        f"{NAME}:psutil.Process",
        f"{NAME}:missing",
        f"{NAME}.add",
        f"{NAME}:",
        f"{NAME}:add;x",
        "",
    ],
)
def test_only_functions_that_an_allowed_module_defines_itself_are_accepted(registry: Registry, name: str) -> None:
    with pytest.raises(FunctionRefusedError, match="function"):
        registry.check(name)
    with pytest.raises(FunctionRefusedError, match="function"):
        registry.resolve(name, {})


@pytest.mark.parametrize("name", ["add.__globals__", "Weighted.__init__", "Weighted.__class__", "Weighted.missing"])
def test_only_methods_can_be_reached_inside_a_class_or_function(registry: Registry, name: str) -> None:
    with pytest.raises(FunctionRefusedError):
        registry.resolve(f"{NAME}:{name}", {})


def test_the_message_lists_the_functions_of_the_module(registry: Registry) -> None:
    with pytest.raises(FunctionRefusedError, match=r"it defines .*Weighted, add,"):
        registry.check(f"{NAME}:ad")


def test_a_class_that_cannot_be_instantiated_is_refused_with_the_reason(registry: Registry) -> None:
    with pytest.raises(FunctionRefusedError, match="nothing_like_it"):
        registry.resolve(f"{NAME}:Weighted.map", {"nothing_like_it": 1})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a task module that the test may change."""
    path = tmp_path / "zarkov_changing_tasks.py"
    path.write_text("def one(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "zarkov_changing_tasks", raising=False)
    importlib.invalidate_caches()
    return path


def test_checking_runs_no_task_code(module: Path) -> None:
    module.write_text("raise SystemExit('this ran')\ndef one(): return 1\n")
    registry = Registry(["zarkov_changing_tasks"])
    registry.check("zarkov_changing_tasks:one")
    assert registry.versions(["zarkov_changing_tasks:one"])
    assert "zarkov_changing_tasks" not in sys.modules


def test_loaded_code_that_differs_from_the_required_code_is_refused_by_name(module: Path) -> None:
    registry = Registry(["zarkov_changing_tasks"])
    old = code_version("zarkov_changing_tasks")
    registry.check_code({"zarkov_changing_tasks": old})
    module.write_text("def one(): return 2\n")
    new = code_version("zarkov_changing_tasks")
    assert new != old
    with pytest.raises(CodeChangedError, match="zarkov_changing_tasks"):
        registry.check_code({"zarkov_changing_tasks": new})
    registry.check_code({"zarkov_changing_tasks": old})


def test_a_module_that_tasks_use_is_compared_once_loaded_and_never_imported_for_a_job(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = module.with_name("zarkov_changing_helper.py")
    helper.write_text("W = 1\n")
    old = hashlib.sha256(helper.read_bytes()).hexdigest()
    monkeypatch.delitem(sys.modules, "zarkov_changing_helper", raising=False)
    registry = Registry(["zarkov_changing_tasks"])
    registry.check_code({"zarkov_changing_helper": "any"})
    assert "zarkov_changing_helper" not in sys.modules
    module.write_text("from zarkov_changing_helper import W\ndef one(): return W\n")
    tasks = code_version("zarkov_changing_tasks")
    monkeypatch.setattr(
        "mapreduce.job.function_registry._STARTED", time.time() + 60
    )  # as if the file were older than the process
    registry.check_code({"zarkov_changing_tasks": tasks, "zarkov_changing_helper": old})
    helper.write_text("W = 2\n")
    new = hashlib.sha256(helper.read_bytes()).hexdigest()
    with pytest.raises(CodeChangedError, match="zarkov_changing_helper"):
        registry.check_code({"zarkov_changing_tasks": tasks, "zarkov_changing_helper": new})
    assert registry.versions(["zarkov_changing_tasks:x", "zarkov_changing_helper:x"]) == {
        "zarkov_changing_tasks": tasks,
        "zarkov_changing_helper": new,
    }  # from which an executor knows whether a new process would have the required code


def test_a_module_changed_after_the_process_started_is_left_to_a_new_process(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = module.with_name("zarkov_changing_helper.py")
    helper.write_text("W = 1\n")
    monkeypatch.delitem(sys.modules, "zarkov_changing_helper", raising=False)
    importlib.import_module("zarkov_changing_helper")
    wanted = hashlib.sha256(helper.read_bytes()).hexdigest()
    with pytest.raises(CodeChangedError, match="zarkov_changing_helper is here in version changed"):
        Registry(["zarkov_changing_tasks"]).check_code({"zarkov_changing_helper": wanted})


def test_a_module_that_fails_to_import_is_named_with_its_error(module: Path) -> None:
    module.write_text("import nothing_like_this\ndef one(): return 1\n")
    with pytest.raises(FunctionRefusedError, match=r"zarkov_changing_tasks cannot be imported.*nothing_like_this"):
        Registry(["zarkov_changing_tasks"]).resolve("zarkov_changing_tasks:one", {})


def test_a_missing_module_is_named(registry: Registry) -> None:
    with pytest.raises(FunctionRefusedError, match="no_such_tasks"):
        Registry(["no_such_tasks"]).check("no_such_tasks:one")
