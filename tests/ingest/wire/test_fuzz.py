"""Arbitrary bytes at each socket of a running ingester: it never fails, and loses no good event."""

from __future__ import annotations

import random
import uuid
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from tests.support.ingest.bson_shapes import shaped, shaped_request
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually

JSON = b'{"type": "x", "timestamp": {"$datetime": 1.5}, "context": {"a": [1, null, "\\u00e9"]}, "extra": 1e3}\n'


def bad_input(chance: random.Random, good: bytes) -> bytes:
    """Return noise, or good input with bytes changed, removed, truncated, or doubled."""
    kind = chance.randrange(6)
    data = bytearray(good)
    at = chance.randrange(len(data))
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        data[at] = chance.randrange(256)
    elif kind == 2:
        del data[at : at + chance.randrange(1, 20)]
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        data[at:at] = data[at : at + chance.randrange(1, 50)]
    else:
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def sample(chance: random.Random) -> bytes:
    values = [1, 2.5, True, None, "text", b"bytes", [1, {"a": 2}], {"b": {"c": []}}, bson.ObjectId(), bson.Regex("a")]
    return bson.encode(
        {"type": "x", "context": {"v": chance.choice(values)}, "extra": chance.choice(values), "id": uuid.uuid4().hex}
    )


def fuzz_round(running: RunningIngester, database: Database[Any], count: int, seed: int) -> None:
    """Send `count` pieces of bad input to each socket, with good events of type `good` between them."""
    chance = random.Random(seed)
    good = 0
    with zmq.Context() as context:
        receivers = {receiver: context.socket(kind) for receiver, kind in _KINDS.items()}
        for receiver, socket in receivers.items():
            socket.setsockopt(zmq.LINGER, 20_000)
            socket.connect(running.address("ack" if receiver == "shapes" else receiver))
        for n in range(count):
            receivers["bson"].send(bad_input(chance, sample(chance)))
            receivers["bson"].send(shaped(chance))
            receivers["shapes"].send_multipart(shaped_request(chance, n))
            receivers["json"].send(bad_input(chance, JSON))
            receivers["ack"].send_multipart([b"%d" % n, bad_input(chance, sample(chance) + sample(chance))])
            while receivers["ack"].poll(0):
                receivers["ack"].recv_multipart()
            if n % 50 == 49 or n == count - 1:  # it is answered, good or bad
                for _ in range(n % 50 + 1):
                    assert receivers["shapes"].poll(60_000), f"no answer near request {n}"
                    receivers["shapes"].recv_multipart()
            if n % 10 == 0:
                good += 2
                receivers["bson"].send(bson.encode({"type": "good", "id": f"b{n}"}))
                receivers["json"].send(b'{"type": "good", "id": "j%d"}' % n)
        with AcknowledgedClient(running.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
            assert client.event("last", {}).accepted == 1
        for socket in receivers.values():
            socket.close()
    eventually(lambda: database["event"].count_documents({"type": "good"}) == good, what="everything good is stored")
    counts = running.ingester.counters
    eventually(lambda: counts.counts().pending == 0)
    totals = sums(database)
    assert counts.counts().received == sum(totals.values())
    assert totals["quarantined"] > count
    failed = database["quarantine"].find_one({"code": {"$in": ["reader_failed", "refused_by_store"]}})
    assert failed is None, "a check let it through, or failed on it"
    assert database["event"].count_documents({"id": {"$exists": True}, "type": {"$exists": False}}) == 0


_KINDS = {"bson": zmq.PUSH, "json": zmq.PUSH, "ack": zmq.DEALER, "shapes": zmq.DEALER}


def test_bad_input_at_every_socket_stops_nothing_and_loses_nothing_good(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    fuzz_round(ingester, database, 400, random.randrange(2**32))


@pytest.mark.long
def test_a_hundred_thousand_pieces_of_bad_input_stop_nothing_and_lose_nothing_good(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    fuzz_round(ingester, database, 35_000, 2011)
