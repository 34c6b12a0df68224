"""`doctor` names each problem, and releases a reservation on request."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
import zmq
from django.core.management import CommandError, call_command

from aggregates.management.commands import doctor
from aggregates.models import AggDef
from aggregates.process_connections import process_connections
from ingest.store.ingester_report import report
from tests.support.aggregates.event_source import event

pytestmark = pytest.mark.usefixtures("site")


def run(*arguments: str) -> tuple[int, str]:
    out, code = io.StringIO(), 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, out.getvalue()


def test_a_healthy_system_has_no_problems(producer):
    producer.send(event())
    code, output = run()
    assert code == 0
    assert re.search(r"received \d+ = stored \d+ \+ duplicates 0 \+ quarantined 0 \+ pending 0", output)
    assert "watermark 1;" in output
    assert "no problems found" in output


def test_an_abandoned_reservation_is_named_and_released(producer, monkeypatch):
    monkeypatch.setattr(doctor, "BLOCKER_AGE_S", -1.0)
    producer.reserve([event(), event()])
    producer.send(event())
    assert process_connections().run_context.store.watermark().through == 0
    code, output = run()
    assert code == 1
    name = re.search(r"block (\d+) of journal (\S+) has been open", output)
    assert name is not None
    assert "its 2 events are lost" in output
    code, output = run("--release", f"{name[2]}:{name[1]}")
    assert (code, "is released" in output) == (0, True)
    assert process_connections().run_context.store.watermark().through == 3
    assert run()[0] == 0


SOUND = {"host": "one", "pid": 7, "pending": 0, "bytes": 0, "oldest_pending_s": 0.0, "full": False}


def test_ingesters_that_make_no_progress_are_named_with_the_remedy(producer, monkeypatch):
    store = process_connections().run_context.store
    report(store, "j1", SOUND | {"waits_for": "OperationFailure: not authorized", "holds": ["j1", "j0"]})
    report(store, "j2", SOUND | {"pid": 8, "silent_s": 60.0, "holds": ["j2"]})
    for journal, pid, age_s in (("j3", 9, 60), ("j0", 10, 60), ("j4", 11, 100_000)):
        report(store, journal, SOUND | {"pid": pid})
        long_ago = [{"$set": {"seen": {"$subtract": ["$$NOW", age_s * 1000]}}}]
        store.database()["ingest.journal"].update_one({"_id": journal}, long_ago)
    code, output = run()
    assert code == 1
    assert "process 7, cannot store events, which wait in its journal: OperationFailure: not authorized" in output
    assert "process 8, has not read its sockets for 60 s" in output
    assert "process 9, has not reported for" in output
    assert "! the ingester on one, process 10" not in output, "its journal was taken over"
    assert "! the ingester on one, process 11" not in output, "it is gone for good"


def test_a_block_of_a_running_ingester_is_not_released_and_its_problem_is_named(producer, monkeypatch):
    monkeypatch.setattr(doctor, "BLOCKER_AGE_S", -1.0)
    block = producer.reserve([event()]).reservation.block
    report(
        process_connections().run_context.store,
        "other",
        SOUND | {"waits_for": "PyMongoError: no room", "holds": [block[0]]},
    )
    _, output = run()
    assert f"block {block[1]} of journal {block[0]} has been open" in output
    assert "process 7, has this journal and keeps trying; it reports: PyMongoError: no room" in output
    with pytest.raises(CommandError, match="process 7, runs and has this journal"):
        run("--release", f"{block[0]}:{block[1]}")


def test_an_ingester_that_does_not_answer_is_named(producer, settings):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as receiver:
        address = f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}"
        settings.ZARKOV = settings.ZARKOV.model_copy(update={"ack_bind_address": address})
        settings.ZARKOV.folder.record_addresses({"ack_bind_address": address})
        code, output = run()
    assert code == 1
    assert f"the ingester at {address} accepts connections but does not answer" in output


def test_a_failing_aggregate_is_named_with_its_error(producer):
    AggDef.objects.create(
        name="bad",
        task_name="tests.support.aggregates.tasks.CountByDay",
        state="failing",
        last_error="KeyError: 'page'",
    )
    code, output = run()
    assert code == 1
    assert "aggregate bad is failing: KeyError: 'page'" in output


def test_workers_that_fail_are_named_with_the_reason(producer):
    now = datetime.now(UTC)
    quarantined = {"name": "one:7", "slots": 1, "busy": 0, "state": "quarantined", "failures": 6, "since": now}
    backing_off = {"name": "two:8", "slots": 1, "busy": 0, "state": "backing off", "failures": 2, "since": now}
    workers = [{**quarantined, "reason": "worker_unable: disk"}, {**backing_off, "reason": "its process ended"}]
    database = process_connections().run_context.store.database()
    database["zmr.router"].insert_one({"_id": "router", "name": "r:1", "seen": now, "workers": workers, "totals": {}})
    code, output = run()
    assert code == 1
    assert "! worker one:7 is quarantined, as it has failed 6 times in a row since" in output
    assert "UTC: worker_unable: disk: repair it; it is tried again once a minute" in output
    assert "\nworker two:8 backs off after 2 failures: its process ended\n" in output


def test_a_wrong_name_is_refused(producer):
    with pytest.raises(CommandError, match="--release nonsense is not a block: use JOURNAL:NUMBER"):
        run("--release", "nonsense")
