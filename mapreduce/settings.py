"""What the engine is told by its caller; where the values come from is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CurveKeys:
    """One key pair, both halves in Z85 as ZeroMQ takes them (40 characters each)."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"CurveKeys(public={self.public!r})"


@dataclass(frozen=True)
class EngineSettings:
    """Everything router, workers and clients need. A router ignores what only workers use, and so on."""

    engine: str  # "zmq", "inline" or "dask"
    req_bind: str  # where the router takes requests; port 0 is chosen freely
    worker_bind: str  # where the router takes workers; port 0 is chosen freely
    req_uri: Callable[[], str]  # where clients find the router; asked before each connection
    worker_uri: Callable[[], str]  # where workers find the router; asked before each connection
    mongo_address: Callable[[], str]  # asked before each connection: a local mongod may change its port
    mongo_database: str  # database of job records, and of inputs and outputs unless a job names another
    job_root: Path  # folder of spill files
    allowed_modules: tuple[str, ...]  # modules whose functions a job may name; nothing else resolves
    worker_interface: str = "tcp://127.0.0.1"  # interface on which workers serve map output to each other
    src_port: int = 0  # port of that socket; 0 = chosen freely
    local_workers: int = 1  # worker processes started on this machine
    processes_per_worker: int = 1  # worker processes of one `runworker`
    spare_processes: int = 1  # of one `runworker`, beside these: they stand by for a second try of a step that hangs
    reduce_count: int = 32  # reduce partitions of a job
    map_job_size: int = 10_000  # documents per split
    outstanding_maps: int = 16  # splits of one job handed out at once
    outstanding_reduces: int = 16  # reduce partitions of one job handed out at once
    compress: int = 0  # zlib level of spill files, 0 = none
    spill_bytes: int = 32 * 2**20  # map output held in memory before a sorted run is spilled
    worker_memory_bytes: int = 256 * 2**20  # above this a worker leaves after its split and is replaced
    split_limit_s: float = 600.0  # no attempt of a split or partition may be without progress for longer
    steps_per_process: int = 0  # steps after which an executor process is replaced, 0 = none
    allow_source: bool = False  # whether a request may carry Python source text
    curve: CurveKeys | None = None  # keys of all sockets; None = not encrypted
    worker_setup: str | None = None  # "module:function" that each worker process calls before it imports tasks
