"""Views that were changed or dropped: what verify says of them, and how runs repair them."""

from __future__ import annotations

import pytest

from aggregates.run.full import full_run
from aggregates.run.verify import verify
from aggregates.services.perform import make_current
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import event


@pytest.mark.parametrize("lost", ["dropped", "elsewhere", "narrowed"])
def test_verify_reports_a_wrong_view_and_the_next_run_restores_it(lost, run, run_context, producer, right):
    definition = define("TwoOutputs")
    producer.send(event("a"))
    run(definition)
    if lost == "dropped":
        run_context.database["zagg.other"].drop()
    else:
        pipeline = [{"$match": {"_id": "nothing"}}] if lost == "narrowed" else []
        target = "zgen.one.1" if lost == "elsewhere" else "zgen.other.1"
        run_context.database.command({"collMod": "zagg.other", "viewOn": target, "pipeline": pipeline})
    comparison = verify(run_context, definition)
    assert [d.sentence() for d in comparison.differences] == [
        "zagg.other: readers do not see zgen.other.1, the view is missing or wrong: run the aggregate to repair it"
    ]
    assert not comparison.ok
    run_context.check_views(definition.name, now=False)
    assert values(run_context.database, "other") == {"p": 1}
    right(definition)
    run_context.database["zagg.other"].drop()
    make_current(run_context, definition)  # it checked the view a moment ago
    assert not verify(run_context, definition).ok
    make_current(run_context, definition, check_views=True)
    right(definition)


def test_a_view_is_not_restored_to_a_generation_that_was_replaced_meanwhile(
    run, run_context, producer, right, monkeypatch
):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    position = run_context.position_store.get("countbyday")
    wrong_views = run_context.generations.wrong_views
    run_context.database["zagg.countbyday"].drop()

    def replaced(position):
        found = wrong_views(position)
        monkeypatch.setattr(run_context.generations, "wrong_views", wrong_views)
        full_run(run_context, definition)
        return found

    monkeypatch.setattr(run_context.generations, "wrong_views", replaced)
    assert run_context.generations.repair_views(position).generation == 2
    right(definition)
