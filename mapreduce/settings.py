"""Settings of the engine as its caller passes them; reading and validating configuration is left to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CurveKeys:
    """A CURVE key pair, both halves in Z85 as ZeroMQ expects them (40 characters each)."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"CurveKeys(public={self.public!r})"


@dataclass(frozen=True)
class EngineSettings:
    """Settings of router, workers and clients. Each of them ignores the fields it has no use for."""

    engine: str  # "zmq" or "inline"
    req_bind: str  # address on which the router accepts requests; port 0 = any free port
    worker_bind: str  # address on which the router accepts workers; port 0 = any free port
    req_uri: Callable[[], str]  # address of the router for clients; called before each connection
    worker_uri: Callable[[], str]  # address of the router for workers; called before each connection
    mongo_address: Callable[[], str]  # called before each connection, because a local mongod can change its port
    mongo_database: str  # database of job records, and of inputs and outputs unless a job names another
    job_root: Path  # folder of spill files
    allowed_modules: tuple[str, ...]  # modules whose functions a job can name; nothing else resolves
    worker_interface: str = "tcp://127.0.0.1"  # interface on which workers serve map output to each other
    src_port: int = 0  # port of that socket; 0 = any free port
    local_workers: int = 1  # worker processes started on this machine
    processes_per_worker: int = 1  # executors of one `runworker`
    spare_processes: int = 1  # further executors of one `runworker`, kept ready for a second attempt at a hung step
    reduce_count: int = 32  # reduce partitions of a job
    map_job_size: int = 10_000  # documents per split
    outstanding_maps: int = 16  # splits of one job assigned at the same time
    outstanding_reduces: int = 16  # reduce partitions of one job assigned at the same time
    compress: int = 0  # zlib level of spill files, 0 = none
    spill_bytes: int = 32 * 2**20  # map output held in memory before a sorted run is spilled
    worker_memory_bytes: int = 256 * 2**20  # an executor that uses more exits after its step and is replaced
    split_limit_s: float = 600.0  # longest time without progress for an attempt at a split or partition
    steps_per_process: int = 0  # steps after which an executor is replaced, 0 = never
    allow_source: bool = False  # True if a request may carry Python source text
    curve: CurveKeys | None = None  # keys of all sockets; None = not encrypted
    worker_setup: str | None = None  # "module:function" that each executor calls before it imports tasks
