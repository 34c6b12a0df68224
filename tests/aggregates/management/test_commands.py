"""Commands: their output and exit codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from aggregates import services
from aggregates.models import AggDef
from aggregates.process_connections import process_connections, reset
from mapreduce.exceptions import RouterUnreachableError
from tests.support.aggregates.definitions import values
from tests.support.aggregates.event_source import event
from tests.support.durations import assert_within, seconds
from tests.support.ports import reserved_addresses
from zarkov_site.config.config import REPOSITORY

TASK = "tests.support.aggregates.tasks.CountByDay"
pytestmark = pytest.mark.usefixtures("site")


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_aggregate_prints_what_it_did(producer, database):
    producer.send(event(), event())
    services.define(name="days", task_name=TASK)
    assert "full run over events" in run("aggregate", "days")
    assert "no new events" in run("aggregate", "days")
    producer.send(event())
    assert "incremental run over events (2, 3]: 1 read, 1 keys" in run("aggregate", "days")
    assert "full run over events" in run("aggregate", "days", "--full")
    assert values(database, "days") == {"p/2011-07-01": 3}


def test_aggregate_rebuilds_a_range_and_shows_a_dry_run(producer, database):
    producer.send(event())
    services.define(name="days", task_name=TASK)
    assert "'p/2011-07-01': 1" in run("aggregate", "days", "--dry-run")
    run("aggregate", "days")
    database["zgen.days.1"].update_one({}, {"$set": {"value": 9}})
    assert "rebuild run" in run("aggregate", "days", "--since", "2011-07-01", "--until", "2011-07-02T00:00Z")
    assert values(database, "days") == {"p/2011-07-01": 1}
    for since, until in (("2011-06", "2011-07"), ("2011-06-30T00:00+02:00", "2011-07-01T02:00 02:00")):
        database["zgen.days.2"].update_one({}, {"$set": {"value": 9}})
        run("aggregate", "days", "--since", since, "--until", until)
        assert values(database, "days") == {"p/2011-07-01": 9}, until  # where the range ends, exclusive


def test_the_ends_of_a_range_may_be_relative_to_now(producer, database):
    producer.send(event())
    services.define(name="days", task_name=TASK)
    run("aggregate", "days")
    database["zgen.days.1"].update_one({}, {"$set": {"value": 9}})
    for ends in (["--since", "-24h", "--until", "-30min"], ["--since=-1y"], ["--until", "now", "--since", "-1y"]):
        assert "rebuild run" in run("aggregate", "days", *ends)
        assert values(database, "days") == {"p/2011-07-01": 9}, ends
    run("aggregate", "days", "--since", "-999999d")
    assert values(database, "days") == {"p/2011-07-01": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no aggregate is named 'nothing'"),
        (["days", "--since", "yesterday"], "--since 'yesterday' is not a time: use a form such as"),
        (["days", "--until", "2011-07-01"], "--since is missing"),
        (["days", "--full", "--since", "2011-07-01"], "exclude each other"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, words, site):
    services.define(name="days", task_name=TASK)
    with pytest.raises(CommandError, match=words):
        run("aggregate", *arguments)


def test_aggregate_exits_2_if_the_router_stops_answering_in_the_middle_of_a_run(producer, monkeypatch):
    producer.send(event())
    services.define(name="days", task_name=TASK)

    def silent(*_arguments, **_options):
        raise RouterUnreachableError("no router at req_uri tcp://127.0.0.1:5555: it does not answer")

    monkeypatch.setattr(process_connections().engine, "submit", silent)
    with pytest.raises(CommandError, match="req_uri") as caught:
        run("aggregate", "days")
    assert caught.value.returncode == 2


def test_aggregate_exits_2_within_5_s_and_names_req_uri_if_no_router_answers(site):
    services.define(name="days", task_name=TASK)
    (address,) = reserved_addresses()
    zmr = site.ZARKOV.zmr.model_copy(update={"engine": "zmq", "req_uri": address})
    site.ZARKOV = site.ZARKOV.model_copy(update={"zmr": zmr})
    reset()

    def refused() -> None:
        with pytest.raises(CommandError, match=f"zmr.req_uri = {address}") as caught:
            run("aggregate", "days")
        assert caught.value.returncode == 2

    assert_within(5, lambda: seconds(refused), tries=1)


def test_verify_exits_1_and_lists_the_differences(producer, database):
    producer.send(event(), event(project="q"))
    services.define(name="days", task_name=TASK)
    run("aggregate", "days")
    assert "equal to the recount of 2 events through 2, 2 keys" in run("verify", "days")
    database["zgen.days.1"].update_one({"_id": "q/2011-07-01"}, {"$set": {"value": 5}})
    database["zgen.days.1"].delete_one({"_id": "p/2011-07-01"})
    database["zgen.days.1"].insert_one({"_id": "r/2011-07-01", "value": 1})
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("verify", "--all", stdout=out)
    assert caught.value.code == 1
    assert "3 differences" in out.getvalue()
    for words in ("has 5, the recount has 1", "missing, the recount has 1", "has 1, the recount has no such key"):
        assert words in out.getvalue()


def test_startagg_writes_a_working_task_and_a_passing_test(tmp_path):
    environment = dict(os.environ)
    command = [sys.executable, str(REPOSITORY / "manage.py"), "startagg", "logins"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "task_modules: [logins.agg_tasks]" in done.stdout
    assert "manage.py aggregate logins" in done.stdout
    assert (tmp_path / "logins" / "agg_tasks.py").exists()
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "logins"]
    environment["PYTHONPATH"] = str(REPOSITORY)
    tested = subprocess.run(test, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
    assert "already" in again.stderr
    bad = subprocess.run(
        [*command[:-1], "a-b"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert bad.returncode == 1
    assert "'a-b'" in bad.stderr


def test_definitions_are_exported_to_a_file_and_imported(site, tmp_path):
    services.define(name="days", task_name=TASK, filter={"type": "a"}, realtime=True)
    services.define(name="nightly", task_name=TASK, crontab="15 3 * * *")
    file = tmp_path / "aggregates.yaml"
    run("aggdefs", "export", str(file))
    assert "nothing to change" in run("aggdefs", "import", str(file))
    services.define(name="days", filter={}, on_error="skip")
    AggDef.objects.get(name="nightly").delete()
    assert run("aggdefs", "import", str(file)) == "created or changed: days, nightly\n"
    days = AggDef.objects.get(name="days")
    assert (days.filter, days.on_error, days.realtime) == ({"type": "a"}, "", True)
    assert run("aggdefs", "export", "-") == file.read_text()


def test_a_file_with_an_error_changes_nothing(site, tmp_path):
    file = tmp_path / "aggregates.yaml"
    file.write_text(f"aggregates:\n  good: {{task_name: {TASK}}}\n  bad: {{task_name: {TASK}, filters: {{}}}}\n")
    with pytest.raises(CommandError, match="aggregate bad: filters: an aggregate has no such field"):
        run("aggdefs", "import", str(file))
    assert not AggDef.objects.exists()
    file.write_text("- 1\n")
    with pytest.raises(CommandError, match="must have `aggregates:`"):
        run("aggdefs", "import", str(file))
