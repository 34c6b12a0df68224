"""Workers recognize the router's MongoDB, and ask for it rarely."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from pymongo import monitoring
from pymongo.database import Database

from mapreduce.exceptions import OtherStoreError
from mapreduce.store_error import may_have_moved
from mapreduce.store_identity import COLLECTION, IdentityCheck, make_identity


class Commands(monitoring.CommandListener):
    """Names of the commands that a client has sent, without those of its login."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if not event.command_name.startswith("sasl"):
            self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def lose_server(check: IdentityCheck) -> None:
    event: Any = SimpleNamespace(new_description=SimpleNamespace(server_type_name="Unknown"))
    check.description_changed(event)


def test_an_identity_is_made_once_and_asked_for_again_only_after_a_server_was_lost(
    database: Database[dict[str, Any]], mongo_uri: str
) -> None:
    wanted = make_identity(database)
    assert make_identity(database) == wanted
    assert wanted["database"] == database.name
    check, commands = IdentityCheck(), Commands()
    with pymongo.MongoClient[dict[str, Any]](mongo_uri, event_listeners=[check, commands]) as client:
        for _ in range(20):
            check.check(client, wanted)
        assert commands.names == ["find", "listCollections"]
        lose_server(check)
        for _ in range(20):
            check.check(client, wanted)
        assert commands.names == ["find", "listCollections"] * 2


@pytest.mark.parametrize("change", ["nothing there", "made again", "restored", "another database"])
def test_any_other_identity_is_refused_with_the_address_and_what_to_do(
    database: Database[dict[str, Any]], mongo_client: Any, change: str
) -> None:
    wanted: dict[str, str] | None = make_identity(database)
    assert wanted is not None
    document = database[COLLECTION].find_one()
    assert document is not None
    if change == "another database":
        wanted = {**wanted, "database": "test_nothing"}
    else:
        database[COLLECTION].drop()
    if change == "made again":
        assert make_identity(database) != wanted
    if change == "restored":
        database[COLLECTION].insert_one(document)
    check = IdentityCheck()
    with pytest.raises(OtherStoreError, match=r"MongoDB at 127\.0\.0\.1:\d+ is not the router's: set mongo_uri") as got:
        check.check(mongo_client, wanted)
    assert got.value.retryable
    assert may_have_moved(got.value), "the executor is replaced by one with the address that is current then"
    check.check(mongo_client, make_identity(database))


def test_a_router_that_does_not_know_its_own_identity_gets_no_work_done(mongo_client: Any) -> None:
    with pytest.raises(OtherStoreError, match="router does not know"):
        IdentityCheck().check(mongo_client, None)
