"""Summarize the state of the system for the overview page: aggregates and their lag, quarantine, jobs."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from aggregates.web import stored_events
from aggregates.web.json_encoding import moment_text
from aggregates.web.series import freshness, output_position
from mapreduce.job.spec import RUNNING_STATES


def read(database: Database[dict[str, Any]]) -> dict[str, Any]:
    """Return the newest event id, each aggregate with its lag in events, and counts of quarantine and jobs."""
    newest = stored_events.newest_id(database)
    return {
        "newest_id": newest,
        "aggregates": list_outputs(database, newest),
        "quarantine": database["quarantine"].estimated_document_count(),
        "jobs": {
            "running": database["zmr.job"].count_documents({"state": {"$in": list(RUNNING_STATES)}}, maxTimeMS=1000),
            "failed": database["zmr.job"].count_documents({"state": "error"}, maxTimeMS=1000),
        },
    }


def list_outputs(database: Database[dict[str, Any]], newest: int) -> list[dict[str, Any]]:
    """List the outputs of up to 500 positions: definition, freshness, lag in events, and whether a run is open."""
    found = []
    now = freshness.watermark(database)
    for document in database[output_position.POSITIONS].find({"lead": {"$exists": False}}).sort("_id", 1).limit(500):
        current = freshness.from_position(document, now)
        through, complete = current.through, current.complete_through
        for name in document.get("outputs") or [document["_id"]]:
            found.append(
                {
                    "name": name,
                    "aggdef": document.get("aggdef"),
                    "through": through,
                    "complete_through": moment_text(complete) if complete else None,
                    "lag": max(newest - through, 0) if through is not None else newest,
                    "running": bool(document.get("step") or document.get("making")),
                }
            )
    return found
