"""Settings of the ingester as plain values; reading them from files or the environment is left to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The ingester's CURVE key pair in Z85 (ZeroMQ RFC 32), and the folder with its senders' keys."""

    public: str  # senders need it to recognise the ingester
    secret: str = field(repr=False)
    clients: Path  # only senders with a key file in this folder may connect


@dataclass(frozen=True)
class JournalSettings:
    """The folder of journals, when they are synced, and how large they and their segments get."""

    folder: Path  # each journal is a subfolder of this one
    segment_bytes: int = 8 * 2**20  # a segment is closed at this size
    max_bytes: int = 2**30  # above this the ingester stops reading its sockets
    sync: str = "batch"  # "batch", "interval:MS" or "off"


@dataclass(frozen=True)
class IngestSettings:
    """Settings of one ingester process."""

    bson_bind_address: str  # ZeroMQ address, like the next three; port 0 picks a free port
    json_bind_address: str
    ack_bind_address: str
    publish_bind_address: str
    mongo_address: Callable[[], str]  # called before each connection: a local mongod may change its port
    mongo_database: str
    journal: JournalSettings
    curve: ServerKeys | None = None  # None = anybody may connect, unencrypted
    backdoor: str | None = None  # loopback HOST:PORT of a Python prompt; None = off
    block_events: int = 5_000  # most events committed as one block, and in one journal record
    block_bytes: int = 8 * 2**20  # most bytes of BSON committed as one block
    hops: int = 0  # load balancers between a client and the acknowledged socket; each adds a routing frame
    end_mark: bytes = b""  # the load balancer's last message through each pushed receiver; empty = no load balancer
    inserters: int = 2  # blocks committed at the same time
