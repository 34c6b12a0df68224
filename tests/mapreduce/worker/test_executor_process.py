"""An executor as its worker sees it: whatever happens to its process, the worker never waits for it."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from mapreduce.wire import message
from mapreduce.worker.executor import ExecutorConfig
from mapreduce.worker.executor_process import ExecutorFactory, ExecutorProcess
from tests.support.waiting import eventually

STEP = message.pack(message.TASK, {"attempt": "a", "job": "j"})


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[ExecutorFactory]:
    context: zmq.Context[Any] = zmq.Context()
    config = ExecutorConfig("w", str(tmp_path), "mongodb://127.0.0.1:1", [], False, None, 1, 1, 0, 2**30, 1.0, 0, None)
    found = ExecutorFactory(context, lambda: config)
    yield found
    found.close()
    context.term()


def end(child: ExecutorProcess) -> None:
    child.kill()
    child.close()


def test_no_call_waits_for_an_executor_that_starts_slowly(
    factory: ExecutorFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nread gate\n")  # an interpreter that has not begun yet: its input ends with the worker
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    child = factory.spawn()
    try:
        assert not child.dead()
        assert not list(child.receive())
    finally:
        end(child)


@pytest.mark.parametrize("order", [lambda child: child.assign(STEP, "a", 0.0), lambda child: child.abort(1.0)])
def test_no_call_waits_for_an_executor_that_was_just_killed(factory: ExecutorFactory, order: Any) -> None:
    child = factory.spawn()
    try:
        hello = eventually(lambda: list(child.receive()), what="it has started")
        assert message.unpack(hello[0])[0] == message.HELLO
        child.send_config()
        ready = eventually(lambda: list(child.receive()), what="it is ready")
        assert message.unpack(ready[0])[0] == message.READY
        child.mark_idle()
        child.process.kill()
        eventually(lambda: not child.socket.poll(0, zmq.POLLOUT), what="its connection is gone")
        order(child)
        assert child.process.wait(60) == -9
        assert child.exit_reason() == "its process was ended by SIGKILL"
    finally:
        end(child)


def test_an_executor_that_closes_its_connection_is_killed(factory: ExecutorFactory) -> None:
    child = factory.spawn()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        child.process, process = other, child.process
        process.kill()
        process.wait()
        eventually(lambda: not child.socket.poll(0, zmq.POLLOUT), what="nobody is connected")
        child.assign(STEP, "a", 0.0)
        assert other.wait(60) == -9
        assert child.attempt == "a", "its step is reported as lost"
    finally:
        if process.stdin is not None:
            process.stdin.close()
        end(child)


def test_an_executor_that_cannot_be_started_leaves_nothing_open(
    factory: ExecutorFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker tries again each second, for as long as the machine has no processes left."""

    def no_more(*arguments: Any, **options: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_more)
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with pytest.raises(BlockingIOError):
            factory.spawn()
    eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= open_files + 10, what="all are closed")
