"""Runs over other collections than the events, and over other aggregates."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aggregates.exceptions import DefinitionError, UnknownAggregateError
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from aggregates.run.inputs import readable_input, settled_through
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event


def test_another_key_field_of_a_collection_requires_a_full_run_and_resets_its_id_samples(
    run, run_context, producer, right
):
    orders = run_context.database["orders"]
    orders.create_index("number")
    for number in range(5):
        orders.insert_one({"number": number, "timestamp": NOON, "context": {"project": "p"}})
    inputs = (f"{run_context.database.name}.orders",)
    definition = define("CountByDay", inputs=inputs, settle_s=0.1)

    def settle(definition):
        outcome = run(definition)
        while outcome.through is None:
            outcome = run(definition)
        return outcome

    settle(definition)
    other = define("CountByDay", inputs=inputs, settle_s=0.1, id_key="number")
    outcome = run(other)
    assert outcome.state == "blocked"
    assert f"{inputs[0]}#number" in outcome.reason
    while readable_input(run_context, other).through is None:
        pass
    full_run(run_context, other)
    assert run_context.position_store.get("countbyday").position == 4
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 5}
    right(other)
    orders.insert_one({"number": "five", "timestamp": NOON, "context": {"project": "p"}})
    with pytest.raises(DefinitionError, match="id_key: its values"):
        run(other)


def test_an_id_sample_of_another_collection_settles_nothing(run_context, producer):
    now = run_context.position_store.now()
    days = define("CountByDay", inputs=("shop.old",), settle_s=1)
    settled_through(run_context.database, days, 7, now - timedelta(seconds=5))
    assert settled_through(run_context.database, days, 9, now) == 7
    assert settled_through(run_context.database, define("CountByDay", inputs=("shop.new",), settle_s=1), 9, now) is None


def test_mongodb_users_are_not_read_whatever_the_definition(run, run_context, producer):
    with pytest.raises(DefinitionError, match="is internal to"):
        run(define("CountByDay", inputs=("admin.system.users",)))


def test_an_aggregate_over_an_aggregate_reads_it_as_a_whole(run, run_context: RunContext, producer: Producer, right):
    days = define("CountByDay")
    total = define("Sum", inputs=("zagg.countbyday",))
    with pytest.raises(UnknownAggregateError, match=r"zagg\.countbyday of sum has not run yet"):
        run(total)
    producer.send(event(), event(at=NOON + timedelta(days=1)), event(project="q"))
    run(days)
    assert run(total).through == 3
    assert values(run_context.database, "sum") == {"p": 2, "q": 1}
    assert run(total).state == "nothing"
    producer.send(event())
    run(days)
    right(days)
    assert run(total).mode == "full"
    assert values(run_context.database, "sum") == {"p": 3, "q": 1}
    right(total)


def test_another_collection_is_read_by_its_increasing_key(run, run_context: RunContext, producer: Producer, right):
    orders = run_context.database["orders"]
    orders.create_index("number")
    definition = define("CountByDay", inputs=(f"{run_context.database.name}.orders",), id_key="number")
    orders.insert_many({"number": n, **event()} for n in (10, 20))
    assert run(definition).through == 20
    orders.insert_many({"number": n, **event()} for n in (21, 22))
    outcome = run(definition)
    assert (outcome.mode, outcome.counts.docs_in) == ("incremental", 2)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 4}
    right(definition)


def test_documents_of_another_collection_are_read_once_they_have_settled(
    run, run_context: RunContext, producer: Producer, right
):
    orders = run_context.database["orders"]
    definition = define("CountByDay", inputs=(f"{run_context.database.name}.orders",), settle_s=600)
    first = orders.insert_one(event()).inserted_id
    assert run(definition).through is None
    long_ago = {"$set": {"notes.$[].at": run_context.position_store.now() - timedelta(seconds=700)}}
    run_context.database["agg.seen"].update_one({"_id": definition.name}, long_ago)
    assert run(definition).through == first
    orders.insert_one(event())
    assert run(definition).through == first
    right(definition)
