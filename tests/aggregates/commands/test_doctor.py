"""`doctor` names what stands in the way, and releases a reservation when told to."""

from __future__ import annotations

import io
import re

import pytest
from django.core.management import CommandError, call_command

from aggregates.management.commands import doctor
from aggregates.models import AggDef
from aggregates.resource import resources
from tests.aggregates.event_source import Producer, event


def run(*arguments: str) -> tuple[int, str]:
    out, code = io.StringIO(), 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue()


@pytest.fixture
def producer(site):
    return Producer(resources().room.store)


def test_nothing_stands_in_the_way_of_a_sound_system(producer):
    producer.send(event())
    code, said = run()
    assert code == 0
    assert re.search(r"received \d+ = stored \d+ \+ duplicates 0 \+ quarantined 0 \+ pending 0", said)
    assert "watermark 1;" in said
    assert "nothing stands in the way" in said


def test_a_reservation_that_nobody_settles_is_named_and_released(producer, monkeypatch):
    monkeypatch.setattr(doctor, "BLOCKER_AGE_S", -1.0)
    producer.reserve([event(), event()])
    producer.send(event())
    assert resources().room.store.watermark().through == 0
    code, said = run()
    assert code == 1
    name = re.search(r"block (\d+) of journal (\S+) is open", said)
    assert name is not None
    assert "its 2 events are lost" in said
    code, said = run("--release", f"{name[2]}:{name[1]}")
    assert (code, "is released" in said) == (0, True)
    assert resources().room.store.watermark().through == 3
    assert run()[0] == 0


def test_a_failing_aggregate_is_named_with_its_error(producer):
    AggDef.objects.create(
        name="bad", task_name="tests.aggregates.tasks.CountByDay", state="failing", last_error="KeyError: 'page'"
    )
    code, said = run()
    assert code == 1
    assert "aggregate bad is failing: KeyError: 'page'" in said


def test_a_wrong_name_is_refused(producer):
    with pytest.raises(CommandError, match="--release nonsense: allowed is JOURNAL:NUMBER"):
        run("--release", "nonsense")
