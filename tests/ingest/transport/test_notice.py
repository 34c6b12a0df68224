"""Subscribers ignore messages that are no notices."""

from __future__ import annotations

import logging

import bson
import pytest
import zmq
from bson.decimal128 import Decimal128

from ingest.log_limit import LogLimit
from ingest.transport import notice
from tests.support.waiting import eventually

NESTED = b"\x03a\x00"
COMPLETE = {"$command": "agg_complete", "name": "x", "through": 1, "docs": 1}
COMMITTED = {"$command": "committed", "through": 1, "count": 1}
POISON = [
    b"",
    b"nonsense",
    bson.encode({}),
    bson.encode({"$command": "agg_complete", "name": ["x"]}),
    bson.encode({"$command": ["agg_complete"]}),
    bson.encode({"$command": "committed", "through": "7", "count": 1}),
    bson.encode({"$command": "committed", "through": True, "count": 1}),
    *(bson.encode({**COMPLETE, "name": name}) for name in ("x\0", "\0", "", "x" * 257)),
    *(
        bson.encode({**notice, field: value})
        for notice, field in ((COMPLETE, "through"), (COMPLETE, "docs"), (COMMITTED, "through"), (COMMITTED, "count"))
        for value in (-1, -(2**63), 1.0, 1e300, float("nan"), float("inf"), False, Decimal128("9e99"), "1", None)
    ),
    bson.encode({"$command": "refused", "code": "bad_json", "message": "", "raw": b""}),
    bson.encode({"$command": "unheard", "name": "x"}),
]


def deep(depth: int) -> bytes:
    """Return a document with `depth` documents inside each other, on which the decoder fails by its stack."""
    document = b"\x05\x00\x00\x00\x00"
    for _ in range(depth):
        document = (len(document) + 8).to_bytes(4, "little") + NESTED + document + b"\x00"
    return document


def test_what_is_no_notice_is_ignored_and_logged_once(
    publisher: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notice, "_log_limit", LogLimit(60))
    subscription = notice.Subscription(publisher.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0"))
    good = {"$command": "committed", "through": 7, "count": 1}

    def arrives() -> bool:
        publisher.send(notice.committed(7, 1))
        return subscription.receive(0.05) == good

    eventually(arrives)
    while subscription.receive(0.2):
        pass
    with caplog.at_level(logging.WARNING):
        for message in [*POISON, deep(2_000)]:
            publisher.send(message)
            assert subscription.receive(5.0) is None
    publisher.send(notice.committed(7, 1))
    assert subscription.receive(5.0) == good
    assert subscription.ignored_count == len(POISON) + 1
    assert len([record for record in caplog.records if "no notice" in record.message]) == 1
    subscription.close()
