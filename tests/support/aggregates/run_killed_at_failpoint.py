"""Run an aggregate in a process that is killed at a failpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision
from aggregates.run.full import full_run, rebuild
from aggregates.run.incremental import refresh
from ingest.store.store import connect
from mapreduce.engine import open_engine
from tests.support.aggregates.definitions import MODULES, define, engine_settings
from tests.support.mongo import open_client


def kill_at(point: str, times: int) -> None:
    """End this process with SIGKILL when `point` is reached for the `times`-th time."""
    left = times

    def reach(found: str) -> None:
        nonlocal left
        if found == point:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    failpoint.hook = reach


def run_killed_at_failpoint(**arguments: Any) -> None:
    """Run in another process, which has imported everything before, until it is killed; else raise `AssertionError`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, kwargs=arguments, daemon=True)
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL, f"{arguments['point']} was not reached; exit code {process.exitcode}"


def _run(
    uri: str, database: str, root: Path, task: str, mode: str, point: str, times: int, since: datetime, until: datetime
) -> None:
    client: MongoClient[dict[str, Any]] = open_client(uri)
    engine = open_engine(engine_settings(uri, database, root))
    run_context = RunContext(client[database], connect(uri, database), engine, MODULES, durable_jobs=False, grace_s=0)
    definition = define(task)
    kill_at(point, times)
    if mode == "full":
        full_run(run_context, definition)
    elif mode == "rebuild":
        rebuild(run_context, definition, since, until)
    elif isinstance(refresh(run_context, definition), Decision):
        full_run(run_context, definition)
