"""Run a real web server for tests: gunicorn with its gevent worker, and an ingester, as child processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import zmq
from pymongo import MongoClient
from pymongo.database import Database

from aggregates.keys.key_time import KeyTime
from tests.support.mapreduce.ready import takes_jobs
from tests.support.migrated_database import put_migrated_database
from tests.support.mongo import open_client
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY
from zarkov_site.config.home import HomeFolder

FREE_PORTS = {
    f"ZARKOV_{key}": "tcp://127.0.0.1:0"
    for key in (
        "BSON_BIND_ADDRESS",
        "JSON_BIND_ADDRESS",
        "ACK_BIND_ADDRESS",
        "PUBLISH_BIND_ADDRESS",
        "ZMR__REQ_BIND",
        "ZMR__WORKER_BIND",
    )
} | {"ZARKOV_WEB_PORT": "0", "ZARKOV_ANONYMOUS_READ": "true"}
PASSWORD = "correct horse battery"
ANSWER_WITHIN_S = 90.0  # only catches hangs


COMPLETE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write_aggregate(
    database: Database[dict[str, Any]],
    name: str,
    values: Mapping[Any, Any],
    through: int = 7,
    *,
    key_time: KeyTime | None = None,
) -> None:
    """Write documents into `zagg.<name>` and the position beside them, as the engine and the position store do.

    Without `key_time`, no AggDef owns the output.
    """
    for key, value in values.items():
        database[f"zagg.{name}"].replace_one(
            {"_id": key}, {"_id": key, "value": value, "through": through}, upsert=True
        )
    position: dict[str, Any] = {
        "aggdef": name,
        "outputs": [name],
        "position": through,
        "complete_through": COMPLETE,
        "generation": 1,
    }
    if key_time is not None:
        position |= {"definition": "x", "key_times": [{"output": name, "code": "x", **key_time.to_document()}]}
    database["agg.position"].replace_one({"_id": name}, {"_id": name, **position}, upsert=True)


# Reads one program per line, as JSON, and replies to each with whether it failed and its output.
_INTERPRETER = """
import contextlib, io, json, sys, traceback
import django
django.setup()
from django.db import connections
for line in sys.stdin:
    output, failed = io.StringIO(), False
    with contextlib.redirect_stdout(output):
        try:
            exec(json.loads(line), {})
        except Exception:
            failed = True
            traceback.print_exc(file=output)
    connections.close_all()
    print(json.dumps([failed, output.getvalue()]), flush=True)
"""


class Server:
    """A web server and an ingester that run while the context is open; `settings` are environment variables."""

    def __init__(self, mongo_uri: str, home: Path, **settings: str) -> None:
        self.folder = HomeFolder(home)
        self.folder.prepare()
        self.database_name = f"web_{uuid.uuid4().hex[:10]}"
        self._client: MongoClient[dict[str, Any]] = open_client(mongo_uri)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZARKOV_")}
        clean.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
        own = {
            "ZARKOV_HOME": str(home),
            "ZARKOV_MONGO_URI": mongo_uri,
            "ZARKOV_MONGO_DATABASE": self.database_name,
            "ZARKOV_ZMR__ENGINE": "inline",
        }
        self.environ = clean | FREE_PORTS | own | settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""

    @property
    def database(self) -> Database[dict[str, Any]]:
        """Return the server's MongoDB database."""
        return self._client[self.database_name]

    def __enter__(self) -> Server:
        put_migrated_database(self.folder)
        self.django(f"""
            from django.contrib.auth import get_user_model
            get_user_model().objects.create_superuser("admin", "", {PASSWORD!r})
        """)
        self.token = self.make_token("test", "ingest,read,operate")
        self.start("ingester", sys.executable, "manage.py", "runingest")  # starts in parallel
        self.start_web()
        eventually(lambda: "ack_bind_address" in self.folder.addresses(), what="the ingester")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)
        self._client.drop_database(self.database_name)
        self._client.close()

    def start(self, name: str, *command: str) -> None:
        """Start a process in its own process group; its output goes to a log in the home folder."""
        self.folder.log.mkdir(parents=True, exist_ok=True)
        with (self.folder.log / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environ, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True
            )

    def start_web(self) -> None:
        """Start gunicorn and wait until it answers."""
        self.start(
            "web", sys.executable, "-m", "gunicorn", "-c", "python:zarkov_site.server", "zarkov_site.wsgi:application"
        )
        eventually(self._answers, what=f"gunicorn; its log: {self.folder.log / 'web.log'}")

    def start_router(self) -> None:
        """Start a router and wait until it accepts jobs."""
        self.start("router", sys.executable, "manage.py", "runrouter")
        eventually(lambda: "zmr.req_bind" in self.folder.addresses(), what="the router")
        eventually(lambda: takes_jobs(self.folder.address("zmr.req_bind")), what="the router accepts jobs")

    def start_ingester(self) -> None:
        """Start an ingester and wait until its sockets are bound."""
        self.start("ingester", sys.executable, "manage.py", "runingest")
        eventually(lambda: "ack_bind_address" in self.folder.addresses(), what="the ingester")

    def stop(self, name: str, number: int = signal.SIGTERM, timeout_s: float = 60.0) -> float:
        """End one process; return the seconds it took."""
        process = self.processes.pop(name)
        began = time.monotonic()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return time.monotonic() - began

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url("healthz"), timeout=20) as answer:
                return bool(answer.status == 200)
        except (OSError, KeyError, ValueError):
            return False
        except Exception as error:
            if type(error).__name__ == "HomeError":
                return False
            raise

    def url(self, path: str = "") -> str:
        """Return the address of a page."""
        return self.folder.address("web") + "/" + path.removeprefix("/")

    def manage(self, *arguments: str) -> str:
        """Run a management command in this server's home folder; return its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=self.environ,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def django(self, code: str) -> str:
        """Run Python with the server's Django database, in one child process for all calls; return its output."""
        if "django" not in self.processes:
            self.processes["django"] = subprocess.Popen(
                [sys.executable, "-c", _INTERPRETER],
                env=self.environ | {"DJANGO_SETTINGS_MODULE": "zarkov_site.settings"},
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        child = self.processes["django"]
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps(textwrap.dedent(code)).encode() + b"\n")
        child.stdin.flush()
        failed, output = json.loads(child.stdout.readline())
        assert not failed, output
        return str(output)

    def cookie_name(self, word: str) -> str:
        """Return the name of the cookie `session` or `csrf`."""
        return self.django(f"from django.conf import settings; print(settings.{word.upper()}_COOKIE_NAME)").strip()

    def make_token(self, name: str, scopes: str) -> str:
        """Return a new token, made by the command."""
        return self.django(f"""
            from django.core.management import call_command
            call_command("token", {name!r}, scope={scopes!r})
        """).strip()

    def request(
        self, path: str, data: Any = None, *, token: str | None = None, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers with lower-case names, and body."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(self.url(path), data=body, method=method)
        request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Token {token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def post_events(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Send events by HTTP; return the receipt."""
        _, _, body = self.request("api/v1/events/", list(events), token=self.token)
        receipt: dict[str, Any] = json.loads(body)
        return receipt

    def announce(self, name: str, through: int) -> None:
        """Announce a refreshed aggregate, as the aggregator does."""
        notice = {"$command": "agg_complete", "name": name, "through": through, "docs": 1}
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.connect(self.folder.address("bson_bind_address"))
            socket.send(bson.encode(notice))
            socket.close(linger=60_000)

    @contextlib.contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[Stream]:
        """Yield an open stream of server-sent events."""
        request = urllib.request.Request(self.url(path))
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
            yield Stream(answer)


class Stream:
    """Read server-sent events."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def next(self) -> tuple[str, str, Any]:
        """Return `(event, id, data)` of the next message that is not a comment; block until it arrives."""
        fields: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            if not line:
                raise EOFError("the stream ended")
            line = line.rstrip("\n")
            if not line:
                if "data" in fields:
                    return fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
