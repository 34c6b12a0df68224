"""One executor process as its host sees it: started, ready, busy, unwanted, dead."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from mapreduce.wire import message
from mapreduce.worker.executor import ExecutorConfig
from mapreduce.worker.locked_folder import LockedFolder

_HIGH_WATER = 1_000


class ExecutorFactory:
    """Starts executors. Their sockets lie in a folder that only this user can enter."""

    def __init__(self, context: Any, config: Callable[[], ExecutorConfig]) -> None:
        self._context = context
        self._config = config
        self._claim = LockedFolder(
            Path(tempfile.gettempdir()), "zmr-"
        )  # short: a socket's path has at most 107 characters
        self._numbers = itertools.count()

    def spawn(self) -> ExecutorProcess:
        """A new executor, which says when it is ready; nobody waits for it here, where heartbeats are sent.

        Raises what its configuration raises.
        """
        config = self._config().to_bytes()
        socket = self._context.socket(zmq.PAIR)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, _HIGH_WATER)
        socket.set(zmq.RCVHWM, _HIGH_WATER)
        address = f"ipc://{self._claim.path / str(next(self._numbers))}"
        socket.bind(address)
        read_end, write_end = os.pipe()
        # Where this process finds its modules, the executor finds them too.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-m", "mapreduce.worker.executor", address, str(os.getpid())],
            stdin=subprocess.PIPE,
            pass_fds=(write_end,),
            env=environment,
        )
        os.close(write_end)
        return ExecutorProcess(process, socket, read_end, config)

    def close(self) -> None:
        """Remove the folder of sockets."""
        self._claim.release()


class ExecutorProcess:
    """Belongs to the host's thread."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Any, lifeline: int, config: bytes = b"") -> None:
        self.process = process
        self.socket = socket
        self.lifeline = lifeline  # readable, at its end, as soon as the process is dead
        self.idle = False
        self.was_ready = False
        self.attempt = ""  # what it does
        self.job = ""
        self.frames: list[bytes] = []  # the step it was given
        self.aborted = False
        self._config = config
        self._kill_at_s: float | None = None

    def configure(self) -> None:
        """It has started and is connected: tell it what it needs to know."""
        self._tell([self._config])

    def begin(self, frames: list[bytes], attempt_id: str, now: float) -> None:
        """Give it a step."""
        _, header, _ = message.unpack(frames)
        self.idle, self.aborted, self._kill_at_s = False, False, None
        self.attempt, self.job, self.frames = attempt_id, header["job"], frames
        self._tell(frames)

    def rest(self) -> None:
        """It has nothing to do."""
        self.idle = self.was_ready = True
        self.attempt, self.frames, self._kill_at_s = "", [], None

    def end(self) -> None:
        """It leaves by itself."""
        self.idle = False
        self.attempt, self.frames = "", []

    def abort(self, kill_at_s: float) -> None:
        """Its step is not wanted: it is told so, and killed when it goes on."""
        self.aborted = True
        self._kill_at_s = kill_at_s
        self._tell(message.pack(message.ABORT, {"attempt": self.attempt}))

    def _tell(self, frames: list[bytes]) -> None:
        """Send without ever waiting: whoever has no connection to us has ended, or might as well."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.kill()

    def overdue(self, now: float) -> bool:
        """Whether it has gone on with an unwanted step for too long."""
        return self._kill_at_s is not None and now >= self._kill_at_s

    def receive(self) -> Iterator[list[bytes]]:
        """Messages that are there."""
        while not self.socket.closed:
            try:
                yield self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return

    def dead(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def obituary(self) -> str:
        """How it ended, for a person."""
        code = self.process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with code {code}"

    def kill(self) -> None:
        """End the process, even a stopped one."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Wait for the killed process, and let go of its socket and pipes."""
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.socket.close()
        os.close(self.lifeline)
