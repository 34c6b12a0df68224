"""Celery's broker address."""

from __future__ import annotations

from pymongo.uri_parser import parse_uri

from zarkov_site.celery import broker_url


def test_a_worker_does_not_wait_long_for_a_mongodb_that_hangs_unless_the_address_asks_for_it() -> None:
    found = parse_uri(broker_url("mongodb://me:secret@host/there?socketTimeoutMS=60000", "zarkov"))
    assert found["database"] == "zarkov_celery"
    assert found["options"]["authSource"] == "there"
    limits = ("socketTimeoutMS", "connectTimeoutMS", "serverSelectionTimeoutMS")
    assert [found["options"][limit] for limit in limits] == [60.0, 2.0, 2.0]
