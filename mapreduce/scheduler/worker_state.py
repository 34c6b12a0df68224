"""The router's view of a worker, and the times after which it must send a heartbeat and counts as lost."""

from __future__ import annotations

from dataclasses import dataclass, field

HEARTBEAT_S = 0.5
LOST_AFTER_S = 3.0  # a worker that has sent nothing for this long counts as gone


@dataclass
class WorkerState:
    """The router's view of a worker."""

    worker_id: str
    name: str  # machine and process id, for people
    slots: int  # steps it can run at the same time
    data_uri: str  # address at which it serves map output
    seen_s: float  # time of its last message, on the router's clock
    idle: int = 0  # steps it can start now
    spare: int = 0  # second attempts at its own steps that it can start beyond its slots
    running: dict[str, tuple[str, float]] = field(default_factory=dict)  # attempt id -> (job id, time of assignment)
    aborted: dict[str, tuple[str, float]] = field(default_factory=dict)  # the same of attempts it was told to abort

    @property
    def accepts(self) -> bool:
        """Return True if it can be given a step: it says so, and has not more of them than it can do."""
        return self.idle > 0 and len(self.running) <= self.slots + self.spare
