"""Tell hostile clients the addresses of a running system, and a token that may only send events."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Targets:
    """Addresses of one system as its clients use them."""

    web: str  # ends with a slash
    bson: str
    json: str
    acknowledged: str
    requests: str  # of the router, for clients
    workers: str  # of the router, for workers
    notices: str  # of the ingester, for subscribers
    publishers: str  # of the metrics broker
    backends: str  # of the metrics broker, for subscribers
    ingest_token: str

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Targets:
        return cls(**json.loads(text))
