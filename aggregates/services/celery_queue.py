"""List what waits in Celery's queue, for people. Reads the broker and never changes it. Blocks on the broker."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from pymongo import MongoClient

from aggregates.models import AggDef, Run
from aggregates.models.run import LONG_FIELDS

log = logging.getLogger(__name__)
MOST_SHOWN = 200
Client = MongoClient[dict[str, Any]]  # of the MongoDB that is the default broker
PERFORM, SCHEDULED, VERIFY = (
    "aggregates.schedule.perform",
    "aggregates.schedule.run_scheduled",
    "aggregates.schedule.verify",
)


@dataclass(frozen=True)
class QueuedMessage:
    """A message that no Celery worker has taken yet."""

    task: str  # name of the Celery task
    arguments: tuple[Any, ...]
    since: datetime


@dataclass(frozen=True)
class WaitingWork:
    """One line of the queue: work for a Celery worker."""

    what: str  # kind of work, for people
    since: datetime
    aggdef: AggDef | None = None
    run: Run | None = None
    queued: bool = True  # False: its message was lost; `requeue_lost_runs` will queue it again


def count(client: Client) -> int:
    """Return the number of waiting messages, with any broker. Raise what the broker raises."""
    queue = str(current_app.conf.task_default_queue)
    if (messages := _collection(client)) is not None:
        return int(messages.count_documents({"queue": queue}, maxTimeMS=1000))
    with current_app.connection_for_read(connect_timeout=1) as connection:
        return int(connection.default_channel.queue_declare(queue=queue, passive=True).message_count)


def messages(client: Client) -> list[QueuedMessage] | None:
    """Return the waiting messages, oldest first, at most `MOST_SHOWN`; None if the broker can only count them."""
    collection = _collection(client)
    if collection is None:
        return None
    queue = str(current_app.conf.task_default_queue)
    found = collection.find({"queue": queue}, max_time_ms=1000).sort("_id", 1).limit(MOST_SHOWN)
    return [_message(document) for document in found]


def queued_runs(client: Client) -> frozenset[int]:
    """Return the keys of runs with a waiting message; empty if the broker cannot list them or is down. Never raises."""
    try:
        found = messages(client) or []
    except Exception as error:  # noqa: BLE001 - every broker has errors of its own
        log.info("queue cannot be read error=%s", error)
        return frozenset()
    return frozenset(m.arguments[0] for m in found if m.task == PERFORM and m.arguments)


def lines(client: Client) -> list[WaitingWork]:
    """Return waiting work, oldest first: messages that are still relevant, and planned runs without a message."""
    found = messages(client)
    known = found or []
    asked = {message.arguments[0] for message in known if message.task == PERFORM and message.arguments}
    planned = Run.objects.filter(state=Run.State.PLANNED).select_related("aggdef").defer(*LONG_FIELDS)[:MOST_SHOWN]
    runs = {run.pk: run for run in planned}
    names = {str(name) for message in known if message.task in (SCHEDULED, VERIFY) for name in message.arguments}
    aggdefs = AggDef.objects.in_bulk(names, field_name="name") if names else {}
    shown = [line for message in known if (line := _line(message, runs, aggdefs)) is not None]
    lost = [run for run in runs.values() if run.pk not in asked]
    shown += [WaitingWork(run.get_mode_display(), run.created, run.aggdef, run, queued=found is None) for run in lost]
    return sorted(shown, key=lambda line: line.since)


def _line(message: QueuedMessage, runs: Mapping[int, Run], aggdefs: Mapping[str, AggDef]) -> WaitingWork | None:
    first = message.arguments[0] if message.arguments else None
    if message.task == PERFORM:
        run = runs.get(first) if isinstance(first, int) else None
        if run is None:  # it was cancelled or has started
            return None
        return WaitingWork(run.get_mode_display(), message.since, run.aggdef, run)
    if message.task == SCHEDULED:
        return WaitingWork("scheduled run", message.since, aggdefs.get(str(first)))
    if message.task == VERIFY:
        what = f"scheduled verification of {', '.join(map(str, message.arguments)) or 'all'}"
        return WaitingWork(what, message.since, aggdefs.get(str(first)))
    return WaitingWork(message.task, message.since)


def _collection(client: Client) -> Any:
    """Return the collection of kombu's MongoDB transport; None for another broker.

    The transport itself would open a client for each read and never close it.
    """
    broker = str(current_app.conf.broker_url)
    return client[urlsplit(broker).path.strip("/")]["messages"] if broker.startswith("mongodb") else None


def _message(document: Mapping[str, Any]) -> QueuedMessage:
    """Parse a message stored by kombu (`payload`: Celery's message protocol 2 as JSON). Executes nothing of it."""
    headers = json.loads(document["payload"]).get("headers", {})
    try:
        arguments = tuple(ast.literal_eval(str(headers.get("argsrepr", "()"))))
    except (ValueError, SyntaxError, TypeError):  # Celery has truncated it
        arguments = ()
    return QueuedMessage(str(headers.get("task", "?")), arguments, document["_id"].generation_time)
