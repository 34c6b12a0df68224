"""Run an aggregate in a process that is killed at a failpoint; the argument is one JSON object."""

from __future__ import annotations

import json
import os
import signal
import sys
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


def main(arguments: dict[str, Any]) -> None:
    uri, name = arguments["uri"], arguments["database"]
    client: MongoClient[dict[str, Any]] = open_client(uri)
    engine = open_engine(engine_settings(uri, name, Path(arguments["root"])))
    run_context = RunContext(client[name], connect(uri, name), engine, MODULES, durable_jobs=False, grace_s=0)
    definition = define(arguments["task"])
    kill_at(arguments["point"], arguments["times"])
    if arguments["mode"] == "full":
        full_run(run_context, definition)
    elif arguments["mode"] == "rebuild":
        rebuild(run_context, definition, *(datetime.fromisoformat(arguments[end]) for end in ("since", "until")))
    elif isinstance(refresh(run_context, definition), Decision):
        full_run(run_context, definition)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
