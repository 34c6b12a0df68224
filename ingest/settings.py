"""What the ingester is told by its caller; where the values come from is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The ingester's CURVE key pair in Z85 (ZeroMQ RFC 32), and the folder of the senders that it lets in."""

    public: str  # what senders must know
    secret: str = field(repr=False)
    clients: Path


@dataclass(frozen=True)
class JournalSettings:
    """Where the journals are and when they are cut, synced and full."""

    folder: Path  # every journal has its own folder below this one
    segment_bytes: int = 8 * 2**20  # a segment is closed at this size
    max_bytes: int = 2**30  # above this the ingester stops reading its sockets
    sync: str = "batch"  # "batch", "interval:MS" or "off"


@dataclass(frozen=True)
class IngestSettings:
    """Everything one ingester process needs."""

    bson_bind_address: str  # ZeroMQ address; port 0 is chosen freely
    json_bind_address: str
    ack_bind_address: str
    publish_bind_address: str
    mongo_address: Callable[[], str]  # asked before each connection: a local mongod may change its port
    mongo_database: str
    journal: JournalSettings
    curve: ServerKeys | None = None  # who may connect; None = anybody, unencrypted
    backdoor: str | None = None  # loopback HOST:PORT of a Python prompt; None = off
    block_events: int = 5_000  # most events committed as one block
    block_bytes: int = 8 * 2**20  # most bytes of BSON committed as one block
    hops: int = 0  # fronts between a client and the acknowledged socket; each adds a routing frame
    inserters: int = 2  # blocks committed at the same time
