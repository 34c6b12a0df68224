"""Aggregate definitions of the test tasks, settings of an inline engine for them, and the values in their outputs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from pymongo.database import Database

from aggregates.definition.definition import Definition
from mapreduce.settings import EngineSettings

MODULES = ("tests.support.aggregates.tasks", "tests.support.aggregates.period_tasks")


def engine_settings(uri: str, database: str, root: Path) -> EngineSettings:
    return EngineSettings(
        engine="inline",
        req_bind="tcp://127.0.0.1:0",
        worker_bind="tcp://127.0.0.1:0",
        req_uri=lambda: "",
        worker_uri=lambda: "",
        mongo_address=lambda: uri,
        mongo_database=database,
        job_root=root,
        allowed_modules=MODULES,
    )


def task_name(task: str) -> str:
    """Return the name of a test task with the module that defines it; with the first one, if none does."""
    return next(
        (f"{name}.{task}" for name in MODULES[1:] if hasattr(import_module(name), task)), f"{MODULES[0]}.{task}"
    )


def define(task: str, name: str = "", **more: Any) -> Definition:
    name = name or task.lower()
    return Definition(name=name, task_name=task_name(task), output=name, **more)


def values(database: Database[dict[str, Any]], output: str) -> dict[Any, Any]:
    return {document["_id"]: document["value"] for document in database[f"zagg.{output}"].find()}
