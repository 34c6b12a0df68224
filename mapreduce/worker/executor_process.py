"""The worker's view of an executor process: starting, ready, busy, aborted, dead."""

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

from mapreduce.exceptions import WorkerUnableError
from mapreduce.wire import message
from mapreduce.worker.executor import ExecutorConfig
from mapreduce.worker.locked_folder import LockedFolder

_HIGH_WATER = 1_000


class ExecutorFactory:
    """Start executors. Their sockets are in a folder that only this user can open.

    The constructor raises `WorkerUnableError` if the folder of temporary files cannot be used.
    """

    def __init__(self, context: Any, config: Callable[[], ExecutorConfig]) -> None:
        self._context = context
        self._config = config
        # The prefix is short, because a socket's path has at most 107 characters.
        self._claim = LockedFolder(_temporary_folder(), "zmr-", "TMPDIR")
        self._numbers = itertools.count()

    def spawn(self) -> ExecutorProcess:
        """Start an executor without waiting for it, because this thread also sends heartbeats; it reports when ready.

        Raise whatever the configuration function raises, and `OSError` if no process can be started.
        """
        config = self._config().to_bytes()
        socket = self._context.socket(zmq.PAIR)
        socket.set(zmq.LINGER, 0)
        socket.set_hwm(_HIGH_WATER)
        address = f"ipc://{self._claim.path / str(next(self._numbers))}"
        socket.bind(address)
        with contextlib.ExitStack() as unless_started:  # without processes or files left, it is tried again and again
            unless_started.callback(socket.close)
            read_end, write_end = os.pipe()
            unless_started.callback(os.close, read_end)
            try:
                process = _start(address, write_end)
            finally:
                os.close(write_end)
            unless_started.pop_all()
        return ExecutorProcess(process, socket, read_end, config)

    def close(self) -> None:
        """Remove the folder of sockets."""
        self._claim.release()


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise WorkerUnableError(f"{error.strerror}: set TMPDIR to a folder that this user can write to") from error


def _start(address: str, lifeline: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mapreduce.worker.executor", address, str(os.getpid())],
        stdin=subprocess.PIPE,
        pass_fds=(lifeline,),
        # The executor must find the same modules as this process.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        process_group=0,  # Ctrl-C reaches only the worker, which ends its executors
    )


class ExecutorProcess:
    """An executor process with its socket, state and current step. Belongs to the worker's thread."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Any, lifeline: int, config: bytes = b"") -> None:
        self.process = process
        self.socket = socket
        self.lifeline = lifeline  # pipe that becomes readable, at end of file, once the process is dead
        self.idle = False
        self.was_ready = False
        self.attempt = ""  # id of the current attempt; empty = none
        self.job = ""
        self.frames: list[bytes] = []  # message of the current step
        self.aborted = False
        self._config = config
        self._kill_at_s: float | None = None

    def send_config(self) -> None:
        """Send the executor its configuration, once it is connected."""
        self._send([self._config])

    def assign(self, frames: list[bytes], attempt_id: str, now: float) -> None:
        """Send the executor a step."""
        _, header, _ = message.unpack(frames)
        self.idle, self.aborted, self._kill_at_s = False, False, None
        self.attempt, self.job, self.frames = attempt_id, header["job"], frames
        self._send(frames)

    def mark_idle(self) -> None:
        self.idle = self.was_ready = True
        self.attempt, self.frames, self._kill_at_s = "", [], None

    def mark_leaving(self) -> None:
        """Mark the executor as about to exit by itself."""
        self.idle = False
        self.attempt, self.frames = "", []

    def abort(self, kill_at_s: float) -> None:
        """Send an abort of the current step; `overdue` is true from `kill_at_s` unless the step ends before."""
        self.aborted = True
        self._kill_at_s = kill_at_s
        self._send(message.pack(message.ABORT, {"attempt": self.attempt}))

    def _send(self, frames: list[bytes]) -> None:
        """Send without blocking; kill an executor that has no connection, or reads nothing."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.kill()

    def overdue(self, now: float) -> bool:
        """Return True if the executor has gone on with an aborted step for too long."""
        return self._kill_at_s is not None and now >= self._kill_at_s

    def receive(self) -> Iterator[list[bytes]]:
        """Yield the messages that have arrived, without blocking."""
        while not self.socket.closed:
            try:
                yield self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return

    def dead(self) -> bool:
        """Return True if the process has ended."""
        return self.process.poll() is not None

    def exit_reason(self) -> str:
        """Return a sentence for people that says how the process ended."""
        code = self.process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with code {code}"

    def kill(self) -> None:
        """Send SIGKILL, which also ends a stopped process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Wait for the killed process and close its socket and pipes."""
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.socket.close()
        os.close(self.lifeline)
