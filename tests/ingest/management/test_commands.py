"""The commands of the ingester, run as their users run them."""

from __future__ import annotations

import functools
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.support import command
from tests.support.ingest.running import sums
from tests.support.waiting import eventually

Manage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(mongo_uri: str, database: Database[Any], tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "ZARKOV_HOME": str(tmp_path / "home"),
        "ZARKOV_MONGO_URI": mongo_uri,
        "ZARKOV_MONGO_DATABASE": database.name,
    }


@pytest.fixture
def manage(environment: dict[str, str]) -> Manage:
    return functools.partial(command.manage, environ=environment)


@pytest.fixture
def addresses(environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run `runingest`; yield its addresses."""
    process = subprocess.Popen([sys.executable, "manage.py", "runingest"], env=environment, stdout=subprocess.PIPE)
    recorded = tmp_path / "home" / "run" / "addresses.json"
    try:
        eventually(lambda: recorded.exists() or process.poll() is not None)
        yield json.loads(recorded.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert json.loads(recorded.read_text()) == {}
    finally:
        process.kill()
        process.communicate()


def types(database: Database[Any]) -> list[str]:
    return sorted(event["type"] for event in database["event"].find())


def test_zsend_sends_json_lines_as_in_2011(
    addresses: dict[str, str], manage: Manage, database: Database[Any], tmp_path: Path
) -> None:
    bson_receiver = addresses["bson_bind_address"].replace("127.0.0.1", "localhost")
    done = manage("zsend", bson_receiver, stdin='{"type":"nop"}\n\n{"type":"b"}\n')
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"2 messages sent to {bson_receiver}\n"
    (tmp_path / "key").write_bytes(b"secret")
    assert manage("zsend", bson_receiver, f"@{tmp_path}/key", stdin='{"type":"c"}').returncode == 0
    assert manage("zsend", "--json", addresses["json_bind_address"], stdin='{"type":"d"}').returncode == 0
    assert manage("zsend", addresses["json_bind_address"], stdin='{"type":"e"}').returncode == 0, "its port is known"
    eventually(lambda: types(database) == ["b", "c", "d", "e", "nop"])


TIMES = [
    '{"type": "iso", "timestamp": "2024-01-31T12:00:00Z"}',
    '{"type": "our own", "timestamp": {"$datetime": 1706702400}}',
    '{"type": "mongo", "timestamp": {"$date": {"$numberLong": "1706702400000"}}}',
    '{\n  "type": "lines",\n  "timestamp": "2024-01-31t12:00:00z",\n  "extra": [\n    {"a": 1}\n  ]\n}',
]
BAD = [
    ('{"type": "x", "timestamp": "yesterday"}', "line 2: bad_timestamp"),
    ('{"typ": "x"}', "line 4: unknown_field"),
    ('{"type": "x", "type": "y"}', "line 6: repeated_field"),
    ('{"type": "x", "extra":', "line 8 is not a JSON document"),
    ("nonsense", "line 10 is not a JSON document"),
    ("[]", "line 12 is a JSON list"),
]


@pytest.mark.parametrize("receiver", ["bson_bind_address", "json_bind_address", "ack_bind_address"])
def test_zsend_reads_what_the_json_receiver_reads(
    addresses: dict[str, str], manage: Manage, database: Database[Any], receiver: str
) -> None:
    done = manage("zsend", addresses[receiver], stdin="\ufeff" + "\n".join(TIMES) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 messages sent to {addresses[receiver]}\n"
    eventually(lambda: types(database) == ["iso", "lines", "mongo", "our own"])
    moments = {event["timestamp"].isoformat() for event in database["event"].find()}
    assert {moment.removesuffix("+00:00") for moment in moments} == {"2024-01-31T12:00:00"}


@pytest.mark.parametrize("receiver", ["bson_bind_address", "json_bind_address", "ack_bind_address"])
def test_zsend_says_what_is_refused_and_sends_the_rest(
    addresses: dict[str, str], manage: Manage, database: Database[Any], receiver: str
) -> None:
    good = '{"type": "good"}'
    done = manage("zsend", addresses[receiver], stdin="\n".join(f"{good}\n{bad}" for bad, _ in BAD) + f"\n{good}\n")
    assert done.returncode == 1
    assert done.stdout == f"7 messages sent to {addresses[receiver]}, 6 refused\n"
    assert [line.startswith(start) for line, (_, start) in zip(done.stderr.splitlines(), BAD, strict=True)] == [
        True
    ] * 6
    eventually(lambda: types(database) == ["good"] * 7)
    assert sums(database)["quarantined"] == 0


def test_zsend_sends_each_line_as_it_comes(
    addresses: dict[str, str], environment: dict[str, str], database: Database[Any]
) -> None:
    command = [sys.executable, "manage.py", "zsend", addresses["bson_bind_address"]]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True) as sender:
        assert sender.stdin is not None
        for sent in (["a"], ["a", "b"]):
            sender.stdin.write(f'{{"type": "{sent[-1]}"}}\n')
            sender.stdin.flush()
            eventually(lambda sent=sent: types(database) == sent)
        sender.stdin.close()
        assert sender.wait(60) == 0


def test_zsend_sends_no_json_to_the_bson_socket(addresses: dict[str, str], manage: Manage) -> None:
    done = manage("zsend", "--json", addresses["bson_bind_address"], stdin='{"type": "x"}')
    assert (done.returncode, "BSON socket, leave --json out" in done.stderr) == (1, True), done.stderr


def test_zsend_sends_no_shared_key_to_the_acknowledged_socket(addresses: dict[str, str], manage: Manage) -> None:
    done = manage("zsend", "--ack", addresses["ack_bind_address"], "secret", stdin="{}")
    assert (done.returncode, "leave them out" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["nonsense"], "{}", "'nonsense' is not a ZeroMQ address"),
        (["tcp://127.0.0.1:1", "--timeout", "0.2"], '{"type":"x"}', "is an ingester running"),
        (["tcp://127.0.0.1:1", "@/no/such/file"], "{}", "key file /no/such/file"),
        (["tcp://127.0.0.1:1"], "nonsense", "line 1 is not a JSON document"),
        (["tcp://127.0.0.1:1"], "[]", "line 1 is a JSON list"),
    ],
)
def test_zsend_reports_an_error_in_one_line(manage: Manage, arguments: list[str], stdin: str, expected: str) -> None:
    done = manage("zsend", *arguments, stdin=stdin)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert expected in done.stderr


def test_loading_a_file_twice_stores_it_once(
    addresses: dict[str, str], manage: Manage, database: Database[Any], tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl.gz"
    lines = [json.dumps({"type": "x", "timestamp": "2011-07-01"})] * 1_500 + ["nonsense", '{"typ": "x"}']
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    for _ in range(2):
        done = manage("loadevents", str(path))
        assert done.returncode == 1
        assert done.stdout == "1500 events accepted, 2 refused\n"
        assert "1501: " in done.stderr
        assert "1502: unknown_field" in done.stderr
    eventually(lambda: sums(database) == {"stored": 1_500, "duplicates": 1_501, "quarantined": 1})
    assert database["event"].count_documents({}) == 1_500


def test_loadevents_names_a_missing_file_and_a_missing_ingester(manage: Manage, tmp_path: Path) -> None:
    assert "no running process" in manage("loadevents", "x").stderr
    done = manage("loadevents", "--address", "tcp://127.0.0.1:1", str(tmp_path / "none"))
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1)
    assert "No such file" in done.stderr


def test_initdb_prepares_the_store_and_can_be_repeated(manage: Manage, database: Database[Any]) -> None:
    first, again = manage("initdb"), manage("initdb")
    assert (first.returncode, again.stdout) == (0, first.stdout)
    assert "event" in database.list_collection_names()


def test_every_command_has_an_example_in_its_help() -> None:
    from ingest.management.command import ZarkovCommand

    folder = Path("ingest/management/commands")
    for path in folder.glob("[a-z]*.py"):
        module = __import__(f"ingest.management.commands.{path.stem}", fromlist=["Command"])
        assert issubclass(module.Command, ZarkovCommand)
        assert f"manage.py {path.stem}" in module.Command.example
