"""Provide `db`, the MongoDB database, for `manage.py shell`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.functional import SimpleLazyObject
from pymongo import MongoClient
from pymongo.database import Database

from ingest.wire.codec import CLIENT_OPTIONS


def _connect() -> Database[dict[str, Any]]:
    config = settings.ZARKOV
    client: MongoClient[dict[str, Any]] = MongoClient(config.mongo_address(), **CLIENT_OPTIONS)
    return client[config.mongo_database]


db = SimpleLazyObject(_connect)  # connects on first use, so that a shell also opens without a mongod
