"""Load the sample through the ingester, like any producer, and remove it again."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from aggregates import services
from aggregates.models import AggDef, Chart, Dashboard
from aggregates.sample.content import DASHBOARD, EVENT_COUNT, ID_PREFIX, events
from ingest.client import AcknowledgedClient, ClientKeys

BATCH = 1_000
POLL_S = 0.1
_OF_SAMPLE = {"id": {"$gte": ID_PREFIX, "$lt": ID_PREFIX[:-1] + chr(ord(ID_PREFIX[-1]) + 1)}}


@dataclass(frozen=True)
class Progress:
    """Progress of one phase of loading."""

    phase: str  # "send", "store", "aggregate"
    done: int  # events, or aggregates in phase "aggregate"
    total: int  # `done` at the end of the phase


def load(address: str, database: Database[Any], keys: ClientKeys | None = None) -> Iterator[Progress]:
    """Send the events to the acknowledged receiver at `address`, define aggregates and charts, and yield progress.

    A second load stores nothing twice and changes no definition. Ends when every event is stored; use
    `wait_for_aggregates` to wait for the aggregates. Raise the errors of `AcknowledgedClient.send`.
    """
    sent = 0
    with AcknowledgedClient(address, keys=keys) as client:
        unsent = events()
        while batch := list(itertools.islice(unsent, BATCH)):
            sent += client.send(batch).accepted
            yield Progress("send", sent, EVENT_COUNT)
    while (count := stored(database)) < EVENT_COUNT:
        yield Progress("store", count, EVENT_COUNT)
        time.sleep(POLL_S)
    DASHBOARD.define()


def stored(database: Database[Any]) -> int:
    return database["event"].count_documents(_OF_SAMPLE)


def wait_for_aggregates(through: int, should_stop: Callable[[], bool]) -> Iterator[Progress]:
    """Yield progress until every AggDef of the sample contains the events up to id `through`, or `should_stop()`."""
    names = [aggregate.name for aggregate in DASHBOARD.aggregates]
    while not should_stop():
        reached = AggDef.objects.filter(name__in=names, last_id__gte=through).count()
        yield Progress("aggregate", reached, len(names))
        if reached == len(names):
            return
        time.sleep(POLL_S)


def remove(database: Database[Any]) -> tuple[int, list[str]]:
    """Remove the events, aggregates and charts of the sample.

    Return the number of removed events, and the names of other aggregates that have counted them and need a full run.
    """
    names = [aggregate.name for aggregate in DASHBOARD.aggregates]
    services.remove(*AggDef.objects.filter(name__in=names))
    Dashboard.objects.filter(slug=DASHBOARD.slug).delete()
    Chart.objects.filter(slug__in=[chart.slug for chart in DASHBOARD.charts]).delete()
    removed = 0
    for name in database.list_collection_names(filter={"name": re.compile(r"^event\.\d+$")}):
        removed += database[name].delete_many(_OF_SAMPLE).deleted_count
    of_sample = {None, "commit", "change"}  # types in a filter that matches events of the sample; None = no such filter
    others = [
        aggdef.name
        for aggdef in AggDef.objects.all()
        if removed and "event" in aggdef.inputs and _plain_type(aggdef.filter) in of_sample
    ]
    return removed, others


def _plain_type(filter_: dict[str, Any]) -> str | None:
    """Return the single event type that a filter matches; None for other filters."""
    kind = filter_.get("type")
    return kind if isinstance(kind, str) else None
