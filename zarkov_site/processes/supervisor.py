"""Start the parts of a running system as child processes, report and restart those that die, and stop them all.

`zarkov_site.processes.parts` lists the parts and their order. honcho runs the processes and colours their output.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import queue
import re
import shlex
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

from zarkov_site.config.file_access import PRIVATE
from zarkov_site.config.home import HomeFolder
from zarkov_site.exceptions import SiteError
from zarkov_site.processes.process_signal import kill_family, resume_family, signal_group
from zarkov_site.processes.restart_decision import RestartPolicy

FIRST_PARTS_WAIT_S = 4.0  # part of this time for the parts that stop first, while those that they use still run
HURRIED_WAIT_S = 0.5  # the same for parts of each order if MongoDB does not answer: what waits for it does not end
KEPT_LINES = 12
LOG_BYTES = 10 * 2**20  # of one part's log file; twice that is kept
_LEVEL = re.compile(r"^\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
_QUIET = {"DEBUG", "INFO"}


class PartFailedError(SiteError, code="part_failed"):
    """A part failed too often, or did not become ready, or the sample could not be loaded."""


@dataclass(frozen=True)
class Part:
    """One child process of a running system."""

    name: str  # as shown, and the name of its log file
    command: tuple[str, ...]  # program and arguments
    ready_keys: tuple[str, ...] = ()  # dotted keys that it records in run/addresses.json when it is ready
    needs_tables: bool = False  # True if Django's tables must be up to date before it starts
    runs_tasks: bool = False  # True if it runs task code, which it must reload when a task file changes
    reload_signal: signal.Signals | None = None  # signal that makes it reload its code; None = it must be restarted
    stop_within_s: float = 30.0  # after SIGTERM; then it is killed
    stop_order: int = 0  # parts with lower numbers stop first, because they need this one to finish their work


@dataclass
class _Child:
    part: Part
    colour: str
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    launched: bool = False  # True until it has ended, even while its pid is not known yet
    pid: int | None = None  # None if it is not running
    started: float = 0.0  # monotonic
    restart_at: float | None = None  # monotonic; None if no start is due
    stopping: bool = False  # True while it is being stopped on purpose
    kill_at: float | None = None  # monotonic; None unless it is being stopped for good
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    showing: bool = False  # True if the last line of its log was shown


class Supervisor:
    """Own the child processes. One thread must call all methods; `step` and `stop` block for a bounded time.

    All output of the parts goes to `log/<name>.log` in the home folder. Warnings and errors are also shown, or
    everything if `verbose`.
    """

    def __init__(
        self, folder: HomeFolder, environment: Mapping[str, str], *, cwd: Path, verbose: bool, output: TextIO
    ) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._cwd = cwd
        self._verbose = verbose
        self._output = output
        self._events: queue.Queue[Message] = queue.Queue()
        self._printer = Printer(output, width=len("aggregator"))
        self._colours = get_colours()
        self._children: dict[str, _Child] = {}
        self._hurry = threading.Event()  # set while stopping if nothing is gained by waiting
        folder.log.mkdir(mode=PRIVATE, parents=True, exist_ok=True)

    def start(self, part: Part) -> None:
        """Start a part. A later `step` records its process id."""
        child = _Child(part, next(self._colours))
        self._children[part.name] = child
        self._launch(child)

    def step(self, timeout_s: float = 0.2) -> None:
        """Wait up to `timeout_s` for messages of the children, handle them, and restart the parts that are due.

        Raise `PartFailedError` for a part that will not be restarted.
        """
        for message in self._messages(timeout_s):
            self._handle(message)
        now = time.monotonic()
        for child in self._children.values():
            if child.restart_at is not None and child.restart_at <= now:
                child.restart_at = None
                self._launch(child)

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Step until `condition` holds. Raise `PartFailedError`, naming `what`, after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise PartFailedError(
                    f"{what} was not ready within {timeout_s:.0f} s; see the files in {self._folder.log}"
                )
            self.step(0.05)

    def reload_task_code(self) -> None:
        """Make every part that runs task code reload it, by a signal or by a restart."""
        for child in self._children.values():
            if not child.part.runs_tasks or child.pid is None:
                continue
            if child.part.reload_signal is not None:
                with contextlib.suppress(ProcessLookupError):  # its end is not handled yet
                    os.kill(child.pid, child.part.reload_signal)
            else:
                child.stopping = True
                signal_group(child.pid, signal.SIGTERM)

    def stop(self, last: str | None = None, store_answers: Callable[[], bool] = lambda: True) -> None:
        """Stop every child by SIGTERM, and by SIGKILL after `Part.stop_within_s`; the part `last` after all others.

        Parts stop in order of `Part.stop_order`, so that work in progress can finish and the last measurements arrive.
        If `store_answers`, which a thread calls, returns False, work cannot finish, and the orders soon follow each
        other. Processes that are suspended go on, because they could not end, as systemd does (systemd.kill(5)).
        """
        for pid in self.running().values():
            resume_family(pid)
        threading.Thread(target=self._check_store, args=(store_answers,), name="store-check", daemon=True).start()
        others = [child for name, child in self._children.items() if name != last]
        self._stop_children(others)
        if last in self._children:
            self._stop_children([self._children[last]])

    def _check_store(self, answers: Callable[[], bool]) -> None:
        if not answers():
            self._hurry.set()

    def running(self) -> dict[str, int]:
        """Return the process id of each running part by name."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    def report(self, text: str) -> None:
        """Print a line from the supervisor itself."""
        now = datetime.datetime.now()  # noqa: DTZ005 - shown to a person, in the zone of the terminal
        self._printer.write(Message("line", text, now, "zarkov", None))

    def write(self, text: str) -> None:
        """Print `text` without a prefix, so that it can be copied."""
        self._output.write(text)
        self._output.flush()

    def _launch(self, child: _Child) -> None:
        process = Process(
            "exec " + shlex.join(child.part.command),
            name=child.part.name,
            colour=child.colour,
            env=self._environment,
            cwd=str(self._cwd),
        )
        child.started = time.monotonic()
        child.launched, child.stopping = True, False
        child.last_lines.clear()
        threading.Thread(target=self._run, args=(process,), name=child.part.name, daemon=True).start()

    def _run(self, process: Process) -> None:
        """Run a child process in its thread. One that cannot be started, or read, counts as ended."""
        try:
            process.run(self._events)
        except Exception as error:  # noqa: BLE001 - without a message the part would never be restarted
            if process._child is not None:
                kill_family(process._child.pid)
            now = datetime.datetime.now()  # noqa: DTZ005 - as honcho's own messages
            text = f"cannot be run: {error}".encode()
            self._events.put(Message("line", text, now, process.name, process.colour))
            self._events.put(Message("stop", {"returncode": os.EX_OSERR}, now, process.name, process.colour))

    def _handle(self, message: Message) -> None:
        child = self._children[message.name]
        if message.type == "start":
            child.pid = message.data["pid"]
        elif message.type == "line":
            self._handle_line(child, message)
        elif message.type == "stop":
            child.launched, child.pid = False, None
            self._handle_death(child, message.data["returncode"])

    def _handle_line(self, child: _Child, message: Message) -> None:
        text = message.data.decode("utf-8", "replace").rstrip()
        child.last_lines.append(text)
        self._append_to_log(child.part.name, text)
        if match := _LEVEL.match(text):
            child.showing = match[1] not in _QUIET
        if self._verbose or child.showing:
            self._printer.write(message._replace(data=text))

    def _append_to_log(self, name: str, text: str) -> None:
        """Append a line to a part's log file, which is renamed to `.1` when it reaches `LOG_BYTES`."""
        log = self._log(name)
        with contextlib.suppress(OSError):  # a full disk costs lines of logs, and does not end what runs
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
                full = file.tell() > LOG_BYTES
            if full:
                log.replace(log.with_suffix(".log.1"))

    def _log(self, name: str) -> Path:
        return self._folder.log / f"{name}.log"

    def _handle_death(self, child: _Child, code: int) -> None:
        if child.stopping:
            child.restart_at = time.monotonic()
            return
        lived_s = time.monotonic() - child.started
        pause_s = child.policy.record_death(lived_s)
        log = self._log(child.part.name)
        reason = f"{child.part.name} ended with {_cause(code)} after {lived_s:.1f} s"
        last_lines = "".join(f"\n    {line}" for line in child.last_lines)
        if pause_s is None:
            raise PartFailedError(
                f"{reason}, {child.policy.deaths_in_a_row} times in a row. Its last lines (all of them are in {log}):"
                f"{last_lines}\nFix the cause, or run it alone: {shlex.join(child.part.command)}"
            )
        self.report(f"{reason}; restarting it in {pause_s:g} s. Its last lines (more in {log}):{last_lines}")
        child.restart_at = time.monotonic() + pause_s

    def _stop_children(self, children: list[_Child]) -> None:
        for child in children:
            child.restart_at = None
        self._collect_ends(0.0)
        orders = sorted({child.part.stop_order for child in children if child.launched})
        wait_s = max((child.part.stop_within_s for child in children), default=0.0)
        started, first_wait_s = time.monotonic(), min(FIRST_PARTS_WAIT_S, wait_s)
        for index, order in enumerate(orders):
            ending = [child for child in children if child.part.stop_order == order]
            for child in ending:
                child.stopping = True  # it gets the signal when its pid arrives, if that is not known yet
                child.kill_at = min(time.monotonic() + child.part.stop_within_s, started + wait_s)
                if child.pid is not None:
                    signal_group(child.pid, signal.SIGTERM)
            share = index / max(1, len(orders) - 1)
            hurried = time.monotonic() + HURRIED_WAIT_S
            self._wait_for(ending, started + first_wait_s + (wait_s - first_wait_s) * share, hurried)
        self._wait_for(children, started + wait_s + 1.0)

    def _wait_for(self, children: list[_Child], deadline: float, hurried: float = math.inf) -> None:
        """Wait until all of them have ended, or until `deadline`; meanwhile kill those whose time is up.

        In a hurry, wait only until `hurried`.
        """
        while any(child.launched for child in children) and time.monotonic() < deadline:
            if self._hurry.is_set() and time.monotonic() >= hurried:
                return
            self._collect_ends(0.05)
            for child in self._children.values():
                if child.pid is not None and child.kill_at is not None and time.monotonic() >= child.kill_at:
                    self.report(f"{child.part.name} did not end within {child.part.stop_within_s:g} s and is killed")
                    kill_family(child.pid)
                    child.kill_at = None

    def _collect_ends(self, timeout_s: float) -> None:
        """Record which children have ended, without restarting any."""
        for message in self._messages(timeout_s):
            child = self._children[message.name]
            if message.type == "line":
                self._handle_line(child, message)
            else:
                child.pid = message.data.get("pid")
                child.launched = child.pid is not None
                if child.pid is not None and child.stopping:
                    signal_group(child.pid, signal.SIGTERM)

    def _messages(self, timeout_s: float) -> Iterator[Message]:
        """Wait up to `timeout_s` for a message from the children, and yield it and all others that are queued."""
        with contextlib.suppress(queue.Empty):
            yield self._events.get(timeout=timeout_s)
            while True:
                yield self._events.get_nowait()


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
