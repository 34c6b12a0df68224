"""The memory of an ingester stays bounded, whatever its senders send, and nothing that they have sent is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.database import Database

from tests.support.ingest.hostile import SMALL_COUNT, HostileSenders, arrived
from tests.support.ingest.limited import JOURNAL_BYTES, LimitedIngester
from tests.support.ingest.running import sums
from tests.support.system import peak_bytes
from tests.support.waiting import WITHIN_S, eventually

LIMIT_BYTES = 300_000_000
READING_BYTES = 2 * LIMIT_BYTES  # while what waits is read: each that had its turn has sent some of its next message
RECEIVERS = ("bson", "json", "ack")
ROUNDS = 2
FILLING = bson.encode({"type": "fills the journal", "extra": "x" * 100_000})
FILLING_COUNT = 2 * JOURNAL_BYTES // 100_000


@pytest.mark.parametrize(
    ("senders", "seconds"), [(24, 4.0), pytest.param(51, 300.0, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_senders_of_large_messages_are_held_while_the_journal_is_full_and_lose_nothing(
    senders: int, seconds: float, push: Callable[..., None], mongo_uri: str, database: Database[Any], tmp_path: Path
) -> None:
    with LimitedIngester(mongo_uri, database.name, tmp_path) as ingester:
        addresses = [(receiver, ingester.address(receiver)) for receiver in RECEIVERS] * (senders // len(RECEIVERS))
        pushing = sum(receiver != "ack" for receiver, _ in addresses)
        push(ingester.address("bson"), *[FILLING] * FILLING_COUNT)
        with HostileSenders(addresses, ROUNDS) as hostile:
            time.sleep(seconds)  # how much memory it takes meanwhile is what is measured
            assert peak_bytes(ingester.process.pid) < LIMIT_BYTES
            assert hostile.sent["big"] < ROUNDS * pushing, "the journal is full, and they wait"
            ingester.mongod_starts()
            wanted = (ROUNDS * pushing * SMALL_COUNT + FILLING_COUNT, ROUNDS * pushing)
            eventually(lambda: arrived(database) == wanted, within_s=WITHIN_S + seconds)
            assert sums(database)["duplicates"] == 0
            assert peak_bytes(ingester.process.pid) < READING_BYTES
