"""Rebuilds of ranges: over daylight changes, at the ends of time, and with keys whose period cannot be told."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, timezone

import pytest

from aggregates.run.context import RunContext
from aggregates.run.full import rebuild
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize("task", ["ByHourInBerlin", "PlainPairsOfDateutil", "PlainPairsWithoutName"])
@pytest.mark.parametrize("begin", [0, 1])
def test_a_rebuild_of_one_of_two_hours_counts_both(run, run_context: RunContext, producer, right, begin: int, task):
    definition = define(task, "byhourinberlin")
    change = datetime(2011, 10, 30, tzinfo=UTC)
    producer.send(event(at=change), event(at=change + HOUR), event(at=change + 1.5 * HOUR), event(at=change + 2 * HOUR))
    run(definition)
    before = values(run_context.database, "byhourinberlin")
    assert before == {"p/2011-10-30T02:00": 3, "p/2011-10-30T03:00": 1}
    rebuild(run_context, definition, change + begin * HOUR, change + (begin + 1) * HOUR)
    assert values(run_context.database, "byhourinberlin") == before
    right(definition)


def test_a_rebuild_keeps_a_key_that_names_a_skipped_hour(run, run_context: RunContext, producer: Producer):
    definition = define("ByHourInBerlin")
    jump = datetime(2011, 3, 27, 1, tzinfo=UTC)
    producer.send(event(at=jump - HOUR), event(at=jump))
    run(definition)
    run_context.database["zgen.byhourinberlin.1"].insert_one({"_id": "p/2011-03-27T02:00", "value": 7, "through": 2})
    rebuild(run_context, definition, jump - HOUR, jump + HOUR)
    assert values(run_context.database, "byhourinberlin") == {
        "p/2011-03-27T01:00": 1,
        "p/2011-03-27T02:00": 7,
        "p/2011-03-27T03:00": 1,
    }


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (NOON, NOON + DAY),
        (FIRST, LAST),
        (LAST - HOUR, LAST),
        (FIRST, FIRST + HOUR),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=timezone(-DAY / 2))),
    ],
)
def test_events_at_the_ends_of_time_are_rebuilt(
    run, run_context: RunContext, producer: Producer, right, since: datetime, until: datetime
):
    definition = define("ByDayOfAnyYear")
    producer.send(event(at=FIRST), event(at=NOON), event(at=LAST), event(at=LAST))
    run(definition)
    before = values(run_context.database, "bydayofanyyear")
    assert before == {"p/0001-01-01": 1, "p/2011-07-01": 1, "p/9999-12-31": 2}
    outcome = rebuild(run_context, definition, since, until)
    assert outcome.odd_count == 0
    assert values(run_context.database, "bydayofanyyear") == before
    right(definition)


def test_keys_whose_period_cannot_be_told_are_kept_counted_and_named(
    run, run_context: RunContext, producer: Producer, caplog: pytest.LogCaptureFixture
):
    definition = define("CountByDay")
    producer.send(event(), event(at=NOON + DAY))
    run(definition)
    odd = ["p/1-01-01", "p/0000-01-01", "p/x", 5, {"a": 1}, "p/2011-02-30"]
    run_context.database["zgen.countbyday.1"].insert_many({"_id": key, "value": 9, "through": 2} for key in odd)
    run_context.database["zgen.countbyday.1"].update_one({"_id": "p/2011-07-01"}, {"$set": {"value": 50}})
    with caplog.at_level(logging.WARNING):
        outcome = rebuild(run_context, definition, NOON, NOON + HOUR)
    found = run_context.database["zagg.countbyday"].find()
    assert {str(document["_id"]): document["value"] for document in found} == {
        "p/2011-07-01": 1,
        "p/2011-07-02": 1,
        **{str(key): 9 for key in odd},
    }
    assert (outcome.odd_count, len(outcome.odd_keys)) == (6, 5)
    assert "6 kept as they are, because period(key) fails: " in outcome.sentence()
    assert "'p/1-01-01' (ValueError: time data '1-01-01'" in outcome.sentence()
    assert "count=6" in caplog.text
