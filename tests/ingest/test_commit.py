"""One block: its events and its verdict come together or not at all, and only once."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from ingest.block import Span
from ingest.commit import BlockCommit, Content, Verdict
from ingest.store import connect


def test_a_verdict_and_its_events_come_together_or_not_at_all_and_a_repetition_adds_nothing(
    mongo_uri: str, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(mongo_uri, database.name)
    mark = store.prepare()
    reservation = store.reserve(mark, ("j", 1), Span(1, 1), 1)
    content = Content([bson.encode({"type": "x"})])
    commits = BlockCommit(store.database())

    def lost(session: ClientSession) -> None:
        session.abort_transaction()
        raise AutoReconnect("the connection broke")

    with monkeypatch.context() as broken:
        broken.setattr(ClientSession, "commit_transaction", lost)
        with pytest.raises(AutoReconnect):
            commits.run(reservation, content, first_try=True)
    assert store.verdicts().count_documents({}) == 0
    assert database["event.1"].count_documents({}) == 0
    for _ in range(2):
        assert commits.run(reservation, content) == Verdict(stored=1)
        assert [event["_id"] for event in database["event.1"].find()] == [reservation.first]
    other = BlockCommit(store.database())
    assert other.run(reservation, content) == Verdict(stored=1), "another process finds the verdict"
    assert database["event.1"].count_documents({}) == 1
    for each in (commits, other):
        each.close()
    store.connection.close()
