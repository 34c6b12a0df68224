"""Kill child processes in a phase of their work; see `tests.support.ingest.killable`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.support.ingest.killable import HALTED, SHARED_BYTES, TARGET
from tests.support.waiting import eventually


class Halting:
    """The process `python -m MODULE ARGUMENT... PHASES-FILE`, which marks its `phases`."""

    def __init__(self, module: str, arguments: Sequence[str], phases: Sequence[str], folder: Path) -> None:
        self._names = list(phases)
        self._phases = folder / f"{uuid.uuid4().hex}.phases"
        self._phases.write_bytes(b"\x00" * SHARED_BYTES)
        self.process = subprocess.Popen([sys.executable, "-m", module, *arguments, str(self._phases)])

    def halt_in(self, phase: str, *, after: bool | None = None) -> None:
        """Let it reach the start or the end of `phase` (a random one if `after` is None), and no further."""
        at_end = random.random() < 0.5 if after is None else after
        with self._phases.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes([self._names.index(phase) + 1, at_end]), TARGET)

            def halted() -> bool:
                assert self.process.poll() is None, f"it ended with {self.process.returncode} before it reached {phase}"
                return bool(os.pread(file.fileno(), 1, HALTED)[0])

            eventually(halted, what=phase)

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> set[str]:
        """Kill it with SIGKILL; return the phases in which it died."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return {self._names[i] for i, count in enumerate(self._phases.read_bytes()[: len(self._names)]) if count}
