"""Celery's MongoDB transport."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import NotPrimaryError

from zarkov_site.processes import celery_transport
from zarkov_site.processes.celery_transport import Channel, Transport

NOBODY = "mongodb://127.0.0.1:1/none?serverSelectionTimeoutMS=100"  # nothing listens there


def connect() -> Connection:
    """Return a connection that gives up after its second attempt."""
    once_more = {"max_retries": 1, "interval_start": 0}
    return Connection(NOBODY, transport=Transport, transport_options=once_more)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("seen_by", ["the driver", "the server"])
def test_a_channel_opens_although_another_process_creates_the_collection_at_the_same_time(
    database: Database[Any], monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    database.create_collection(Channel.broadcast_collection)
    monkeypatch.setattr(Database, "list_collection_names", lambda *_args, **_named: [])
    if seen_by == "the server":
        monkeypatch.setattr(Database, "_list_collection_names", lambda *_args, **_named: [])
    assert Transport.Channel is Channel
    Channel._create_broadcast(Channel.__new__(Channel), database)


def test_a_connection_uses_the_current_address_not_the_configured_one(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_transport, "_current_url", lambda: mongo_uri.replace("/?", f"/{database.name}?"))
    with connect() as connection:
        opened = connection.default_channel.client
        assert opened.name == database.name
        assert opened.client.address == database.client.address
        opened.client.close()


def test_an_address_that_dns_resolves_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    address, opened, resolved = "mongodb+srv://me:secret@cluster.example/celery", list[str](), list[str]()

    def resolve(uri: str, *_arguments: Any, **_options: Any) -> dict[str, Any]:
        resolved.append(uri)
        return {"database": "celery", "options": {}}

    def open_client(uri: str, **_options: Any) -> dict[str, None]:
        opened.append(uri)
        return {"celery": None}

    monkeypatch.setattr("kombu.transport.mongodb.uri_parser.parse_uri", resolve)
    monkeypatch.setattr(celery_transport, "_current_url", lambda: address)
    monkeypatch.setattr(celery_transport, "MongoClient", open_client)
    channel = Channel.__new__(Channel)
    channel.connection = Transport(Connection(address))  # type: ignore[no-untyped-call]
    channel._open()
    assert (resolved, opened) == ([address], [address])


def test_a_client_is_closed_if_the_collections_cannot_be_prepared(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Database[Any]] = []

    def refuse(_channel: Channel, database: Database[Any]) -> None:
        made.append(database)
        raise NotPrimaryError("not primary")

    monkeypatch.setattr(celery_transport, "_current_url", lambda: mongo_uri.replace("/?", f"/{database.name}?"))
    monkeypatch.setattr(Channel, "_ensure_indexes", refuse)
    with connect() as connection, pytest.raises(OperationalError, match="not primary"):
        _ = connection.default_channel
    assert made
    assert all(database.client._closed for database in made)


def test_a_client_is_closed_if_its_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MongoClient[Any]] = []

    def make(*arguments: Any, **options: Any) -> MongoClient[Any]:
        made.append(MongoClient(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(celery_transport, "_current_url", None)
    monkeypatch.setattr(celery_transport, "MongoClient", make)
    with connect() as connection, pytest.raises(OperationalError, match="refused"):
        _ = connection.default_channel
    assert made
    assert all(client._closed for client in made)
