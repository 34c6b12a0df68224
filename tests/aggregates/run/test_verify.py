"""A recount while the aggregate goes on."""

from __future__ import annotations

from typing import Any

import pytest

from aggregates.run import verify as verify_module
from aggregates.run.context import RunContext
from aggregates.run.verify import verify
from tests.support.aggregates.definitions import define
from tests.support.aggregates.event_source import Producer, event


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_increment_while_a_recount_begins_is_no_restored_database(
    moment: str, run: Any, run_context: RunContext, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    sound = verify_module.readable_input
    reads: list[str] = []

    def read(*arguments: Any) -> Any:
        first = not reads
        reads.append(moment)
        if first and moment == "before":
            producer.send(event())
            run(definition)
        found = sound(*arguments)
        if first and moment == "after":
            producer.send(event())
            run(definition)
        return found

    monkeypatch.setattr(verify_module, "readable_input", read)
    comparison = verify(run_context, definition)
    assert comparison.ok, comparison
