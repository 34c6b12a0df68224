"""CURVE keys: every receiver accepts senders with the ingester's keys, and refuses all others with the reason."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ClientKeys, ZarkovClient
from ingest.exceptions import DeliveryError, KeyFileError, QueueFullError
from ingest.settings import IngestSettings
from ingest.transport import server_keys
from ingest.transport.client_keys import as_client
from ingest.transport.notice import Subscription
from ingest.transport.server_keys import allowed_senders, load_server_keys, make_client_keys, make_server_keys
from tests.support import command
from tests.support.ingest.running import RunningIngester, Start, refusal_reason
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY


class KeyRing:
    """The ingester's key file and those of its senders."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clients = folder / "ingest.curve", folder / "ingest-clients"
        self.server = make_server_keys(self.path, self.clients)

    def client(self, name: str) -> ClientKeys:
        return ClientKeys.load(make_client_keys(self.server, name))


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def with_keys(start_ingester: Start, ingest_settings: IngestSettings, ring: KeyRing) -> RunningIngester:
    """Return an ingester that accepts only senders with keys."""
    return start_ingester(dataclasses.replace(ingest_settings, curve=ring.server))


def push_json(address: str, keys: ClientKeys | None) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        as_client(socket, keys)
        socket.connect(address)
        socket.send(b'{"type": "json"}')
        socket.close(linger=20_000)


def types(database: Database[Any]) -> set[str]:
    return {event["type"] for event in database["event"].find()}


def test_a_sender_with_keys_can_use_every_receiver_and_receive_notices(
    with_keys: RunningIngester, ring: KeyRing, database: Database[Any]
) -> None:
    keys = ring.client("shop")  # made while the ingester runs
    subscription = Subscription(with_keys.address("publish"), keys)
    push_json(with_keys.address("json"), keys)
    with ZarkovClient(with_keys.address("bson"), keys=keys, timeout_s=20) as pushing:
        pushing.event("bson", {})
    with AcknowledgedClient(with_keys.address("ack"), keys=keys, connect_timeout_s=20, timeout_s=20) as client:

        def notice_arrives() -> bool:
            assert client.event("ack", {}).accepted == 1
            notice = subscription.receive(0.2)
            return notice is not None and notice["$command"] == "committed"

        eventually(notice_arrives)
    subscription.close()
    eventually(lambda: types(database) == {"ack", "bson", "json"})


def refused_senders(ring: KeyRing, folder: Path) -> dict[str, tuple[ClientKeys | None, str]]:
    """Return senders that must be refused, and the reason that they get."""
    other = KeyRing(folder)
    unknown = other.client("x")
    return {
        "none": (None, "accepts only senders with keys"),
        "of another ingester": (unknown, "its key is not the one in our key file"),
        "not known there": (dataclasses.replace(unknown, server=ring.server.public), "does not know this key"),
    }


@pytest.mark.parametrize("who", ["none", "of another ingester", "not known there"])
def test_a_sender_without_the_right_keys_is_refused_by_every_receiver_with_the_reason(
    with_keys: RunningIngester,
    ring: KeyRing,
    database: Database[Any],
    tmp_path: Path,
    who: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys, reason = refused_senders(ring, tmp_path / "others")[who]
    with AcknowledgedClient(with_keys.address("ack"), keys=keys, attempts=1, connect_timeout_s=1) as client:
        eventually(lambda: reason in refusal_reason(client))
    with ZarkovClient(with_keys.address("bson"), keys=keys, timeout_s=1) as pushing:
        eventually(lambda: reason in refusal_reason(pushing))
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        as_client(socket, keys)
        socket.connect(with_keys.address("json"))
        socket.send(b'{"type": "json"}')
        subscription = Subscription(with_keys.address("publish"), keys)

        def logged() -> bool:
            assert subscription.receive(0.1) is None
            return reason in caplog.text

        eventually(logged)
        subscription.close()
        with AcknowledgedClient(
            with_keys.address("ack"), keys=ring.client("right"), connect_timeout_s=20, timeout_s=20
        ) as client:
            assert client.event("right", {}).accepted == 1
        eventually(lambda: types(database) == {"right"})
        socket.close(linger=0)


def test_the_error_says_whether_the_ingester_has_keys(ingester: RunningIngester, ring: KeyRing) -> None:
    with AcknowledgedClient(ingester.address("ack"), keys=ring.client("x"), attempts=1, connect_timeout_s=1) as client:
        eventually(lambda: "or it has none" in refusal_reason(client))


def test_a_sender_whose_key_file_was_removed_is_refused(
    with_keys: RunningIngester, ring: KeyRing, database: Database[Any]
) -> None:
    keys = ring.client("shop")
    (ring.clients / "damaged.curve").write_text("{")
    with AcknowledgedClient(with_keys.address("ack"), keys=keys, connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("x", {}).accepted == 1
    (ring.clients / "shop.curve").unlink()
    with AcknowledgedClient(with_keys.address("ack"), keys=keys, attempts=1, connect_timeout_s=2) as client:
        eventually(lambda: "does not know this key" in refusal_reason(client))


def test_an_open_connection_outlives_its_key_file_until_the_ingester_is_restarted(
    start_ingester: Start, ingest_settings: IngestSettings, ring: KeyRing, tmp_path: Path
) -> None:
    """Check what docs/operations.md says under "A sender is refused"."""
    settings = dataclasses.replace(ingest_settings, curve=ring.server, ack_bind_address=f"ipc://{tmp_path}/ack")
    keys = ring.client("shop")
    running = start_ingester(settings)
    with AcknowledgedClient(settings.ack_bind_address, keys=keys, connect_timeout_s=20, timeout_s=20) as client:
        assert client.event("x", {}).accepted == 1
        (ring.clients / "shop.curve").unlink()
        assert client.event("x", {}).accepted == 1
        running.stop()
        start_ingester(settings)
        refused = AcknowledgedClient(settings.ack_bind_address, keys=keys, attempts=1, connect_timeout_s=2)
        eventually(lambda: "does not know this key" in refusal_reason(refused))
        refused.close()
        with pytest.raises(DeliveryError):
            client.event("x", {})


def test_a_client_refused_later_reports_it_and_works_again_with_the_right_keys(
    start_ingester: Start, ingest_settings: IngestSettings, ring: KeyRing, tmp_path: Path, database: Database[Any]
) -> None:
    settings = dataclasses.replace(
        ingest_settings, curve=ring.server, bson_bind_address=f"ipc://{tmp_path}/bson",
        publish_bind_address=f"ipc://{tmp_path}/publish",
    )  # fmt: skip
    keys = ring.client("shop")
    content = (ring.clients / "shop.curve").read_text()
    running = start_ingester(settings)
    pushing = ZarkovClient(settings.bson_bind_address, keys=keys, timeout_s=20)
    subscription = Subscription(settings.publish_bind_address, keys)

    def notice_arrives() -> Any:
        pushing.event("x", {})
        return subscription.receive(0.2)

    eventually(notice_arrives)
    running.stop()
    (ring.clients / "shop.curve").unlink()
    running = start_ingester(settings)

    def refused() -> str:
        try:
            pushing.event("lost", {})
        except DeliveryError as error:
            return str(error)
        return ""

    assert "now refuses the connection: it does not know this key" in eventually(refused)
    (ring.clients / "shop.curve").write_text(content)
    eventually(notice_arrives)
    pushing.close(20)
    subscription.close()


def test_a_client_refused_at_the_start_can_send_once_its_key_is_known(
    with_keys: RunningIngester, ring: KeyRing, database: Database[Any]
) -> None:
    keys = ring.client("shop")
    content = (ring.clients / "shop.curve").read_text()
    (ring.clients / "shop.curve").unlink()
    pushing = ZarkovClient(with_keys.address("bson"), keys=keys, timeout_s=0.5)
    acknowledged = AcknowledgedClient(with_keys.address("ack"), keys=keys, attempts=1, connect_timeout_s=0.5)
    for client in (pushing, acknowledged):
        with pytest.raises(DeliveryError):
            client.event("early", {})
    (ring.clients / "shop.curve").write_text(content)
    pushing._timeout_s = 20
    pushing.event("late", {})
    pushing.close(20)
    eventually(lambda: types(database) == {"late"})
    acknowledged.close()


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        (None, 0o600, "cannot be read"),
        ("{", 0o600, "is not JSON"),
        ("[]", 0o600, "does not hold a JSON object"),
        ('{"server": "x", "secret": "y"}', 0o600, "holds no key"),
        ('{"secret": "y"}', 0o600, "holds no key"),
        ("{}", 0o644, "chmod 600"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, mode: int, fault: str) -> None:
    path = tmp_path / "x.curve"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(KeyFileError, match=fault):
            load_server_keys(path, tmp_path)
    else:
        assert load_server_keys(path, tmp_path) is None
    with pytest.raises(KeyFileError, match=fault) as caught:
        ClientKeys.load(path)
    assert str(path) in str(caught.value)


def test_secrets_are_in_no_repr_and_only_the_owner_can_read_their_files(ring: KeyRing) -> None:
    keys = ring.client("shop")
    assert keys.secret not in repr(keys)
    assert ring.server.secret not in repr(ring.server)
    for path in (ring.path, ring.clients / "shop.curve"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_connections_that_come_and_go_without_a_listener_leave_nothing_behind(ring: KeyRing) -> None:
    """The authenticator thread and the sockets that watch handshakes are closed with their owners."""
    before = set(threading.enumerate())
    for _ in range(20):
        client = ZarkovClient("tcp://127.0.0.1:1", keys=ring.client("x"), timeout_s=0.01)
        with pytest.raises(QueueFullError):
            client.event("x", {})
        client.close()
    eventually(lambda: set(threading.enumerate()) <= before)


KEYED = re.compile(r"^```python keys\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_with_keys_send_an_event(
    with_keys: RunningIngester, ring: KeyRing, database: Database[Any], tmp_path: Path
) -> None:
    ring.client("shop")
    examples = KEYED.findall((REPOSITORY / "docs" / "clients.md").read_text())
    assert len(examples) == 2
    for code in examples:
        for shown, receiver in (("6543", "bson"), ("6546", "ack")):
            code = code.replace(f"tcp://localhost:{shown}", with_keys.address(receiver))
        code = code.replace("/etc/shop/", f"{ring.clients}/")
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    pages = {"/keys", "/pyzmq-keys"}
    eventually(lambda: {event["context"]["page"] for event in database["event"].find()} == pages)


EVERYWHERE = "tcp://0.0.0.0:0"


def test_beyond_loopback_an_ingester_starts_only_with_keys_and_commands_use_them(
    mongo_uri: str, database: Database[Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    environment = os.environ | {f"ZARKOV_{d}_BIND_ADDRESS": EVERYWHERE for d in ("BSON", "JSON", "ACK", "PUBLISH")}
    environment |= {"ZARKOV_HOME": str(home), "ZARKOV_MONGO_URI": mongo_uri, "ZARKOV_MONGO_DATABASE": database.name}
    manage = functools.partial(command.manage, environ=environment)
    refused = manage("runingest")
    assert refused.returncode != 0
    assert "ack_bind_address = tcp://0.0.0.0:0 listens beyond loopback" in refused.stderr
    assert "manage.py curvekeys" in refused.stderr
    made = manage("curvekeys", "ingest")
    assert (made.returncode, made.stderr) == (0, "")
    shop = home / "keys" / "ingest-clients" / "shop.curve"
    assert f"wrote {shop}" in manage("curvekeys", "--client", "shop").stdout
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runingest", "--processes", "2"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        recorded = home / "run" / "addresses.json"
        eventually(lambda: recorded.exists() or process.poll() is not None)
        addresses = {key: a.replace("0.0.0.0", "127.0.0.1") for key, a in json.loads(recorded.read_text()).items()}
        lines = tmp_path / "events.jsonl"
        lines.write_text('{"type": "loaded"}\n')
        loaded = manage("loadevents", str(lines), "--address", addresses["ack_bind_address"])
        assert "1 events accepted" in loaded.stdout, loaded.stderr
        sent = manage("zsend", addresses["bson_bind_address"], "--keys", str(shop), stdin='{"type": "sent"}')
        assert "1 messages sent" in sent.stdout, sent.stderr
        bare = manage("zsend", addresses["bson_bind_address"], "--keys", "none", stdin='{"type": "bare"}')
        assert "accepts only senders with keys" in bare.stderr
        eventually(lambda: types(database) == {"loaded", "sent"})
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_keys_of_the_engine_and_of_the_ingester_are_separate(tmp_path: Path) -> None:
    from django.core.management import CommandError, call_command
    from django.test import override_settings

    from mapreduce.wire.curve import load_keys
    from zarkov_site.config.config import Config

    config = Config(home=tmp_path / "home", bson_bind_address=EVERYWHERE, zmr={"req_bind": "tcp://0.0.0.0:5555"})
    keys = config.folder.keys
    with override_settings(ZARKOV=config):
        assert [text.split(" ")[0] for text in config.exposed()] == ["bson_bind_address", "zmr.req_bind"]
        call_command("curvekeys", "engine", verbosity=0)
        assert [text.split(" ")[0] for text in config.exposed()] == ["bson_bind_address"]
        engine = load_keys(keys / "zmr.curve")
        call_command("curvekeys", verbosity=0)
        assert config.exposed() == []
        assert load_keys(keys / "zmr.curve") == engine
        own = config.client_keys()
        assert own is not None
        for arguments in ([], ["ingest"], ["--client", "own"], ["--client", "../x"], ["engine", "--client", "x"]):
            with pytest.raises(CommandError):
                call_command("curvekeys", *arguments, verbosity=0)
        assert config.client_keys() == own
        call_command("curvekeys", "ingest", "--client", "shop", verbosity=0)
        call_command("curvekeys", "ingest", "--force", verbosity=0)
        server = load_server_keys(keys / "ingest.curve", config.folder.client_keys)
        assert server is not None
        assert sorted(allowed_senders(server.clients).values()) == ["own", "shop"]
        renewed = config.client_keys()
        assert renewed is not None
        assert renewed != own
        assert renewed.server == server.public


def test_key_files_that_make_our_code_fail_refuse_a_sender_and_leave_the_receiver_working(
    with_keys: RunningIngester, ring: KeyRing, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> dict[str, str]:
        raise RecursionError("maximum recursion depth exceeded")

    with monkeypatch.context() as broken:
        broken.setattr(server_keys, "allowed_senders", fail)
        with (
            AcknowledgedClient(
                with_keys.address("ack"), keys=ring.client("early"), connect_timeout_s=20, timeout_s=20
            ) as client,
            pytest.raises(DeliveryError, match="keys"),
        ):
            client.event("early", {})
    push_json(with_keys.address("json"), ring.client("late"))
    eventually(lambda: types(database) == {"json"})
