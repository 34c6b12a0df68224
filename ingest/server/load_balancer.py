"""One front process for several ingesters: it binds the addresses, hands what comes to its children, and replaces those
that end or do not answer any more.

Each child is a whole ingester with its own journal, behind local sockets. The front holds no event longer than it
takes to hand it on: it reads a sender's socket only while a child has room. What a killed child had received and not
journalled is lost if it was only pushed; what it had acknowledged is in its journal, which another child adopts.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import zmq

from ingest.server.child_health import ChildHealth
from ingest.server.receiver import LARGEST_BYTES, bind, bound_address
from ingest.settings import IngestSettings, ServerKeys
from ingest.transport.server_keys import Authenticator

log = logging.getLogger(__name__)

CHILD_HIGH_WATER_COUNT = 100  # messages on their way to one child
LOOK_EVERY_S = 0.2
RESTART_PAUSE_S = 1.0
HUNG_AFTER_S = 30.0  # a child that has not answered for so long is killed, to be replaced
START_WITHIN_S = 120.0  # the same before its first answer
DRAIN_MS = 3_000  # at the end: for what was read and is not with a child yet
CHILD_STOP_WITHIN_S = 8.0
LONGEST_IPC_PATH = 90  # sun_path in unix(7) has 108 bytes, the file's name included
_CONTROL = "inproc://control"


class Stop(Protocol):
    """A wish to stop."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block for at most so long; whether it was wished."""


@dataclass(frozen=True, slots=True)
class RelayedSocket:
    """One address of the front and the kind of sockets on both sides of it."""

    key: str
    front: int
    back: int


RELAYED_SOCKETS = (
    RelayedSocket("bson_bind_address", zmq.PULL, zmq.PUSH),
    RelayedSocket("json_bind_address", zmq.PULL, zmq.PUSH),
    RelayedSocket("ack_bind_address", zmq.ROUTER, zmq.DEALER),
    RelayedSocket("publish_bind_address", zmq.XPUB, zmq.XSUB),
)
_PUSHED = ("bson_bind_address", "json_bind_address")


def child_addresses(folder: Path, number: int) -> dict[str, str]:
    """Where child `number` listens, by key of the settings."""
    return {line.key: f"ipc://{folder}/{number}.{line.key.split('_')[0]}" for line in RELAYED_SOCKETS}


def child_settings(settings: IngestSettings, folder: Path, number: int) -> IngestSettings:
    """The settings of one child: as the front's, behind its sockets."""
    addresses: dict[str, Any] = child_addresses(folder, number)
    return replace(settings, **addresses, curve=None, backdoor=None, hops=1)


class Relay:
    """Carries the messages of one line in a thread of its own, inside libzmq (zmq_proxy_steerable(3))."""

    def __init__(self, line: RelayedSocket, address: str, children: Sequence[str], curve: ServerKeys | None) -> None:
        self.line = line
        self._context: zmq.Context[Any] = zmq.Context()
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind(_CONTROL)
        self._authenticator = Authenticator(self._context, curve)
        try:
            self._front = bind(self._context, line.front, line.key, address, curve)
        except BaseException:
            self._authenticator.close()
            self._control.close(0)
            self._context.term()
            raise
        self.address = bound_address(self._front)
        self._back = self._context.socket(line.back)
        self._back.setsockopt(zmq.LINGER, DRAIN_MS)
        self._back.setsockopt(zmq.SNDHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.RCVHWM, CHILD_HIGH_WATER_COUNT)
        self._back.setsockopt(zmq.MAXMSGSIZE, LARGEST_BYTES)
        if line.back != zmq.XSUB:
            self._back.setsockopt(zmq.IMMEDIATE, 1)  # to a child that is there, or to none
        for child in children:
            self._back.connect(child)
        self._thread = threading.Thread(target=self._run, name=f"relay-{line.key}", daemon=True)

    def start(self) -> None:
        """Start the thread; from now on the sockets are its own."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more, hand on what was read, for at most `DRAIN_MS`, and close."""
        with contextlib.suppress(zmq.ZMQError):
            self._control.send(b"TERMINATE", zmq.NOBLOCK)
        self._control.close(DRAIN_MS)
        self._thread.join(DRAIN_MS / 1000)
        self._authenticator.close()
        self._context.term()  # ends a thread that still waits for a child; lingers for what is being sent
        self._thread.join()

    def _run(self) -> None:
        control = self._context.socket(zmq.PAIR)
        control.connect(_CONTROL)
        try:
            zmq.proxy_steerable(self._front, self._back, None, control)
            if self.line.key in _PUSHED:
                self._hand_on_the_rest()
        except zmq.ContextTerminated:
            log.warning("%s: no child took the last messages", self.line.key)
        finally:
            control.close(0)
            self._front.close(0)
            self._back.close()

    def _hand_on_the_rest(self) -> None:
        self._front.unbind(self.address)
        deadline = time.monotonic() + DRAIN_MS / 1000
        while time.monotonic() < deadline and self._front.poll(0) and self._back.poll(100, zmq.POLLOUT):
            self._back.send_multipart(self._front.recv_multipart())


class LoadBalancer:
    """The front and its children. `start`, `run` until `stop` is wished, `close`; all from one thread.

    `start` raises `BindError`. `command(folder, number)` is the command line that runs child `number`.
    """

    def __init__(
        self,
        settings: IngestSettings,
        count: int,
        run_folder: Path,
        command: Callable[[Path, int], Sequence[str]],
        environment: Mapping[str, str],
        *,
        hung_after_s: float = HUNG_AFTER_S,
    ) -> None:
        self._settings = settings
        self._hung_after_s = hung_after_s
        self._command = command
        self._environment = dict(environment)
        run_folder.mkdir(parents=True, exist_ok=True)
        short = len(str(run_folder)) <= LONGEST_IPC_PATH - 20
        self._folder = Path(tempfile.mkdtemp(prefix="in-", dir=run_folder if short else None))
        self._children: list[subprocess.Popen[bytes] | None] = [None] * count
        self._begin_at = [0.0] * count
        self._relays: list[Relay] = []
        self._context: zmq.Context[Any] = zmq.Context()
        receivers = [child_addresses(self._folder, number)["ack_bind_address"] for number in range(count)]
        self._child_health = [ChildHealth(self._context, receiver) for receiver in receivers]

    @property
    def addresses(self) -> dict[str, str]:
        """Where the front really listens, by key."""
        return {relay.line.key: relay.address for relay in self._relays}

    def processes(self) -> list[int]:
        """Process ids of the children, 0 where none runs at the moment."""
        return [child.pid if child is not None and child.poll() is None else 0 for child in self._children]

    def start(self) -> None:
        """Bind everything and start the children."""
        everyone = [child_addresses(self._folder, number) for number in range(len(self._children))]
        try:
            for line in RELAYED_SOCKETS:
                children = [child[line.key] for child in everyone]
                self._relays.append(Relay(line, getattr(self._settings, line.key), children, self._settings.curve))
        except BaseException:
            self.close()
            raise
        for relay in self._relays:
            relay.start()
        self.look_after_children()

    def wait_until_ready(self, stop: Stop, within_s: float = START_WITHIN_S) -> None:
        """Return once every child answers, or `stop` is wished, or after the time, which is said."""
        deadline = time.monotonic() + within_s
        while not all(pulse.ready for pulse in self._child_health):
            if time.monotonic() >= deadline:
                log.warning("not every ingester answers after %g s; see their logs", within_s)
                return
            if stop.wait(LOOK_EVERY_S):
                return
            self.look_after_children()

    def run(self, stop: Stop) -> None:
        """Keep the children alive until `stop`; then end everything."""
        while not stop.wait(LOOK_EVERY_S):
            self.look_after_children()
        self.close()

    def look_after_children(self) -> None:
        """Start every child that is not there, not more often than once in `RESTART_PAUSE_S`; kill one that hangs."""
        now = time.monotonic()
        for number, child in enumerate(self._children):
            if child is not None and child.poll() is None:
                self._kill_if_hung(number, child, now)
                continue
            if child is not None:
                log.warning("ingester %d ended with code %s and is started again", number, child.returncode)
                self._children[number] = None
                self._begin_at[number] = max(self._begin_at[number], now)
            if now >= self._begin_at[number]:
                self._begin_at[number] = now + RESTART_PAUSE_S
                self._children[number] = subprocess.Popen(
                    self._command(self._folder, number), env=self._environment, stdin=subprocess.DEVNULL
                )
                self._child_health[number].begin(now)

    def _kill_if_hung(self, number: int, child: subprocess.Popen[bytes], now: float) -> None:
        silent_s = self._child_health[number].look(now)
        if silent_s <= (self._hung_after_s if self._child_health[number].ready else START_WITHIN_S):
            return
        log.error(
            "ingester %d (process %d) has not answered for %.0f s: it is killed and replaced; its journal is adopted, "
            "pushed messages that it had not journalled are lost", number, child.pid, silent_s,
        )  # fmt: skip
        child.kill()

    def close(self) -> None:
        """Stop reading, let the children store what came, end them. May be called twice."""
        relays, self._relays = self._relays, []
        for relay in relays:
            if relay.line.key in _PUSHED:
                relay.stop()
        for child in self._children:
            if child is not None and child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + CHILD_STOP_WITHIN_S
        for child in filter(None, self._children):
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()  # its journal is adopted at the next start
                child.wait()
        for relay in relays:
            if relay.line.key not in _PUSHED:
                relay.stop()
        for pulse in self._child_health:
            pulse.close()
        self._context.term()
        shutil.rmtree(self._folder, ignore_errors=True)
