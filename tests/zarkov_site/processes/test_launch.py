"""`up` from an empty home folder to numbers on a page, until nothing runs any more."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo.database import Database

from aggregates.sample.content import EVENT_COUNT, FILE
from tests.support.durations import assert_within
from tests.support.mongo import mongod_at_one_port
from tests.support.system import FREE_PORTS, System, alive, running
from tests.support.waiting import WITHIN_S, eventually
from zarkov_site.config.home import HomeFolder
from zarkov_site.config.source import load
from zarkov_site.processes.launch import Launch, greeting

pytestmark = [pytest.mark.timeout(300), pytest.mark.early]
Data = Database[dict[str, Any]]


def data_file() -> list[dict[str, Any]]:
    with gzip.open(FILE, "rt") as lines:
        return [json.loads(line) for line in lines]


def day(event: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(event['timestamp']['$datetime'], UTC):%Y-%m-%d}"


def test_aggregates_of_the_sample_equal_counts_of_its_file(system_database: Data) -> None:
    events = data_file()
    assert len(events) == EVENT_COUNT
    assert system_database["event"].count_documents({"id": {"$gte": "sample:", "$lt": "sample;"}}) == EVENT_COUNT
    expected = Counter(f"{e['context']['project']}/{day(e)}" for e in events if e["type"] == "commit")
    stored = {d["_id"]: d["value"] for d in system_database["zagg.commits_by_day"].find()}
    assert stored == expected
    lines: Counter[str] = Counter()
    for event in events:
        if event["type"] == "commit":
            lines[f"{event['context']['project']}/{day(event)}"] += event["extra"]["insertions"]
    shown = {d["_id"]: d["value"]["insertions"] for d in system_database["zagg.lines_by_day"].find()}
    assert shown == {key: count for key, count in lines.items() if key in shown}
    assert shown.keys() == expected.keys()
    kinds = Counter(f"{e['context']['project']}/{e['extra']['kind']}" for e in events if e["type"] == "change")
    assert {d["_id"]: d["value"] for d in system_database["zagg.changes_by_kind"].find()} == kinds


def test_a_second_load_of_the_sample_stores_nothing(system: System, system_database: Data) -> None:
    done = system.manage("sampledata", "load")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of them new" in done.stdout
    # The journal keeps the order: once a later event is stored, so would the repeated ones be.
    later = system.curl_line().replace('"hello"', '"after the second load"')
    subprocess.run(later, shell=True, capture_output=True, text=True, timeout=90, check=True)
    eventually(lambda: system_database["event"].find_one({"type": "after the second load"}), what="the later event")
    assert system_database["event"].count_documents({"id": {"$gte": "sample:", "$lt": "sample;"}}) == EVENT_COUNT


def test_the_printed_curl_command_works(system: System, system_database: Data) -> None:
    done = subprocess.run(system.curl_line(), shell=True, capture_output=True, text=True, timeout=90, check=True)
    assert json.loads(done.stdout) == {"accepted": 1, "rejected": []}
    eventually(lambda: system_database["event"].find_one({"type": "hello"}), what="the event in MongoDB")


def test_the_greeting_shows_the_address_and_the_login(system: System) -> None:
    password = system.folder.admin_password.read_text().strip()
    assert system.url() in system.output
    assert f"user admin, password {password}" in system.output
    assert system.folder.admin_password.stat().st_mode & 0o777 == 0o600


def test_the_tutorial_of_2011_works(system: System, work_folder: Path, system_database: Data) -> None:
    bson_receiver = system.folder.address("bson_bind_address")
    sent = system.manage("zsend", bson_receiver, stdin='{"type":"nop"}\n')
    assert sent.returncode == 0, sent.stderr
    code = (
        "from ingest.client import ZarkovClient; c = ZarkovClient("
        f"{bson_receiver!r}); c.event('nop', {{'sample_context_key': 'sample_context_val'}}); c.close()"
    )
    done = system.manage("shell", "-c", code)
    assert done.returncode == 0, done.stderr
    eventually(lambda: system_database["event"].count_documents({"type": "nop"}) == 2)
    bare, rich = system_database["event"].find({"type": "nop"}).sort("_id")
    assert list(bare) == ["_id", "timestamp", "type", "context"]
    assert bare["context"] == {}
    assert isinstance(bare["_id"], int)
    assert rich["context"] == {"sample_context_key": "sample_context_val"}
    seen = system.manage("shell", "-c", "print(db.event.count_documents({'type': 'nop'}), 'nops')")
    assert "2 nops" in seen.stdout, seen.stderr

    router = system.folder.addresses()["zmr.req_bind"]
    (work_folder / "my").mkdir()
    (work_folder / "my" / "tasks.py").write_text(
        "from aggregates.task import Task\n\n\n"
        "def map(objects):\n    for object in objects:\n        yield object['type'], 1\n\n\n"
        "def reduce(key, values):\n    return sum(values)\n\n\n"
        "class MyTask(Task):\n"
        "    def _start_jobs(self, socket, full):\n"
        "        self.start_mr(socket, self.db.zagg.my_agg, full, map=map, reduce=reduce)\n"
    )
    eventually(lambda: "tasks.py changed" in system.output, what="the new task file is noticed")
    eventually(lambda: system.folder.addresses().get("zmr.req_bind", router) != router, what="the router has restarted")
    define = "AggDef.objects.create(name='my_agg_def', task_name='my.tasks.MyTask')"
    done = system.manage("shell", "-c", define)
    assert done.returncode == 0, done.stderr
    done = system.manage("aggregate", "my_agg_def")
    assert done.returncode == 0, done.stdout + done.stderr

    def counts() -> dict[str, int]:
        return {d["_id"]: d["value"] for d in system_database["zagg.my_agg"].find()}

    def recount() -> dict[str, int]:
        return dict(Counter(e["type"] for e in system_database["event"].find({}, {"type": 1})))

    first = counts()
    assert first == recount()
    assert first["nop"] == 2
    system.manage("zsend", bson_receiver, stdin='{"type":"nop"}\n')
    eventually(lambda: system_database["event"].count_documents({"type": "nop"}) == 3)
    done = system.manage("aggregate", "my_agg_def")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts() == recount()
    assert counts()["nop"] == 3
    before = {d["_id"]: d["through"] for d in system_database["zagg.my_agg"].find()}
    assert before["change"] < before["nop"], "the second run touched what had nothing new"

    answer = json.loads(system.get("q?foo=" + '{"c":"my_agg"}'.replace('"', "%22")))
    assert ["nop", 3] in answer["foo"]["value"]
    assert "<h1>my_agg</h1>" in system.get("aggregates/my_agg_def/"), "the page of the definition's output"
    checked = system.manage("verify", "my_agg_def")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_run_requested_over_http_starts_at_once(system: System) -> None:
    made = system.manage("token", "operator", "--scope", "operate")
    request = urllib.request.Request(
        system.url("api/v1/aggdefs/commits_by_day/run/"),
        data=b'{"mode": "full"}',
        headers={"Authorization": f"Token {made.stdout.strip()}", "Content-Type": "application/json"},
    )

    def request_and_wait() -> float:
        begun = time.monotonic()
        with urllib.request.urlopen(request, timeout=90) as answer:
            assert answer.status == 202
            run = json.loads(answer.read())["run"]
        eventually(lambda: json.loads(system.get(f"api/v1/runs/{run}/"))["state"] == "complete", what="the run")
        return time.monotonic() - begun

    assert_within(15, request_and_wait, tries=1)


def test_a_killed_part_is_reported_and_restarted(system: System) -> None:
    log = system.output
    match = re.search(r"pid (\d+)", (system.folder.log / "ingester.log").read_text())
    victims = [p for p in system.descendants() if "runingest" in p.cmdline()]
    assert victims, (match, log)
    os.kill(victims[0].pid, signal.SIGKILL)
    eventually(lambda: "ingester ended with signal SIGKILL" in system.output)
    eventually(lambda: [p for p in system.descendants() if "runingest" in p.cmdline() and p.pid != victims[0].pid])

    def accepted() -> bool:
        done = subprocess.run(system.curl_line(), shell=True, capture_output=True, text=True, timeout=90, check=False)
        return '"accepted":1' in done.stdout.replace(" ", "")

    eventually(accepted, what="an event is accepted again")


def test_ctrl_c_does_not_reach_the_process_that_loads_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os, sys; sys.exit(os.getpgrp() == {os.getpgrp()})"
    monkeypatch.setattr("zarkov_site.processes.parts.manage", lambda *_: (sys.executable, "-c", code))
    config, _ = load(environ={"ZARKOV_HOME": str(tmp_path)})
    Launch(config, lambda: False, with_sample=True, output=io.StringIO())._load_sample()


def test_nothing_more_is_started_after_ctrl_c(tmp_path: Path, mongo_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("zarkov_site.processes.launch.call_command", lambda name, **_: done.append(name))
    monkeypatch.setattr("zarkov_site.processes.supervisor.Supervisor.start", lambda _, part: done.append(part.name))
    environ = {"ZARKOV_HOME": str(tmp_path), "ZARKOV_MONGO_URI": mongo_uri}
    config, _ = load(environ=FREE_PORTS | environ)  # the usual ones may belong to a `make run` beside the tests
    Launch(config, lambda: done != [], with_sample=False, output=io.StringIO()).run()
    assert done == ["initdb"]


def test_the_greeting_names_the_address_for_others_if_there_is_a_proxy() -> None:
    local = "http://127.0.0.1:8081/"
    assert "proxy" not in greeting(local, Path("p"), "secret", "token")
    text = greeting(local, Path("p"), "secret", "token", "https://stats.example.org/zarkov")
    assert f"look        {local}\n    for others  https://stats.example.org/zarkov/   through the proxy\n" in text


def test_a_second_up_in_the_same_home_folder_is_refused(system: System) -> None:
    done = system.manage("up")
    assert done.returncode == 1
    assert f"process {system.process.pid} holds" in done.stderr


def test_ctrl_c_or_a_kill_ends_all_processes_and_the_next_start_is_quick(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, "--no-sample", ZARKOV_METRICS__OWN_INTERVAL_S="1") as made:
        processes = made.descendants()
        assert len(processes) >= 8
        made.get("")  # a request to measure
        first_s = made.ready_s
        assert made.stop() < max(first_s, 60)  # on a busy machine; what hangs is killed, see below
        assert alive(processes) == []
        assert "measurements dropped at exit" not in made.output
        assert "is killed" not in made.output
    with running(home, "--no-sample") as made:
        assert made.ready_s < max(2 * first_s, 60)
        processes = made.descendants()
        made.process.kill()
        eventually(lambda: alive(processes) == [], what=f"the end of all parts, {processes}")
    before = time.monotonic()
    with running(home, "--no-sample") as again:
        assert again.process.poll() is None
    assert time.monotonic() - before < max(2 * first_s, 60)


@pytest.mark.parametrize("outside", [False, True], ids=["own", "outside"])
def test_a_mongodb_that_hangs_does_not_hold_up_the_end(tmp_path: Path, outside: bool) -> None:
    """Stop while MongoDB does not answer: a mongod of ours that was suspended is resumed, and ends by itself."""

    def end() -> float:
        mongod = mongod_at_one_port(HomeFolder(tmp_path / "mongo"))
        environ = {"ZARKOV_MONGO_URI": mongod.start()} if outside else {}
        try:
            with running(tmp_path / "home", "--no-sample", **environ) as made:
                processes = made.descendants()
                hung = [psutil.Process(mongod.process.pid)] if outside else named("mongod", processes)
                hung[0].suspend()
                took_s = made.stop(signal.SIGTERM)
                assert alive(processes) == []
                assert made.process.returncode == 0
                assert "is killed" not in made.output
                return took_s
        finally:
            if outside:
                mongod.process.send_signal(signal.SIGCONT)
                mongod.stop()

    assert_within(9.0, end, tries=1, rounds=3)


def named(name: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.name() == name]


def test_a_port_in_use_stops_the_start_and_is_reported(system: System, tmp_path: Path) -> None:
    taken = system.folder.address("bson_bind_address")
    other = System(tmp_path / "other", ZARKOV_BSON_BIND_ADDRESS=taken)
    assert other.process.wait(WITHIN_S) == 1
    eventually(lambda: "bson_bind_address" in other.output)
    assert f"{taken} cannot be used" in other.output
    assert "--set bson_bind_address=" in other.output
    other.stop()
