"""Identity of the MongoDB that a router uses, and the check that a worker's client is connected to the same one.

A worker with the address of another MongoDB, such as that of a test system, would find no events there, and report each
step done. The document of `zmr.deployment` tells deployments apart; the UUID that the server gives its collection tells
them from copies that `mongorestore` makes, with this document in them.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.monitoring import (
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerListener,
    ServerOpeningEvent,
)

from mapreduce.exceptions import OtherStoreError

COLLECTION = "zmr.deployment"
_ID = "deployment"  # one document


def make_identity(database: Database[Any]) -> dict[str, str]:
    """Return `{database, identity}` of a database, after giving it an identity if it has none."""
    deployments = database.get_collection(COLLECTION, write_concern=WriteConcern(w="majority", j=True))
    with contextlib.suppress(DuplicateKeyError):  # another router was quicker
        deployments.update_one({"_id": _ID}, {"$setOnInsert": {"identity": uuid.uuid4().hex}}, upsert=True)
    return {"database": database.name, "identity": _read_identity(database)}


def _read_identity(database: Database[Any]) -> str:
    """Return the identity of a database, read from the primary; an empty string if it has none.

    In a session, as steps read: a connection that cannot have one fails here already.
    """
    deployments = database.get_collection(COLLECTION, read_preference=ReadPreference.PRIMARY)
    with database.client.start_session(causal_consistency=False) as session:
        found = deployments.find_one({"_id": _ID}, session=session)
        if found is None:
            return ""
        listed = next(iter(database.list_collections(session, filter={"name": COLLECTION})), {})
    mark = listed.get("info", {}).get("uuid", b"")
    return f"{found.get('identity')} {getattr(mark, 'bytes', mark).hex()}"


class IdentityCheck(ServerListener):
    """Check that a client's MongoDB is the router's: at the first step, and again after a server was out of reach.

    It must be among the client's `event_listeners`; the driver's own threads call the methods of `ServerListener`.
    """

    def __init__(self) -> None:
        self._confirmed: dict[str, str] | None = None  # identity that was found last

    def opened(self, event: ServerOpeningEvent) -> None:
        """Do nothing: nobody has asked a new server yet."""

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        """Forget what was found if a server is out of reach: another one may take its address."""
        if event.new_description.server_type_name == "Unknown":
            self._confirmed = None

    def closed(self, event: ServerClosedEvent) -> None:
        """Do nothing: the other servers of the same client remain."""

    def check(self, client: Any, wanted: Mapping[str, str] | None) -> None:
        """Raise `OtherStoreError` unless the database of the router's identity `wanted` has it here, too."""
        if wanted is None:
            raise OtherStoreError("the router does not know the identity of its own MongoDB yet")
        if self._confirmed == wanted:
            return
        if _read_identity(client.get_database(wanted["database"])) != wanted["identity"]:
            host = ", ".join(f"{host}:{port}" for host, port in sorted(client.nodes))
            raise OtherStoreError(
                f"this worker's MongoDB at {host} is not the router's: set mongo_uri as on the router's host"
            )
        self._confirmed = dict(wanted)
