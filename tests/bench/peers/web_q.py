"""Peer of `web.q`: the smallest WSGI function that reads a range of documents and answers with JSON.

It does not check names or rights, and has no time zones or headers; x is the unchanged key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from pymongo import MongoClient

_client: MongoClient[dict[str, Any]] | None = None


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer `?foo={"c": ..., "b": ..., "e": ...}`."""
    global _client
    if _client is None:
        _client = MongoClient(os.environ["PEER_MONGO_URI"])
    wanted = json.loads(parse_qs(environ["QUERY_STRING"])["foo"][0])
    collection = _client[os.environ["PEER_DATABASE"]]["zagg." + wanted["c"]]
    found: dict[str, list[Any]] = {}
    for document in collection.find({"_id": {"$gte": wanted["b"], "$lte": wanted["e"]}}).sort("_id"):
        for name, value in document["value"].items():
            found.setdefault(name, []).append([document["_id"], value])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"foo": found}).encode()]
