"""Starts the parts of a running system as child processes, says which dies and why, starts it again, stops all.

`zarkov_site.processes.up` says what the parts are and in which order they start. Processes and the colours of their
output are honcho's.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import re
import shlex
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import psutil
from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

from zarkov_site.config.home import HomeFolder
from zarkov_site.exceptions import SiteError

TERMINATE_WAIT_S = 12.0  # then what hangs is killed; on an idle machine everything ends within 3 s
ALONE_S = 4.0  # of these, for the first parts to end while those that they use are still there
LAST_WAIT_S = 5.0  # for the part that ends after all others
REMEMBERED_LINES = 12
LOG_BYTES = 10 * 2**20  # of one part's log file; twice that is kept
_LEVEL = re.compile(r"^\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
_QUIET = {"DEBUG", "INFO"}


class ProcessFailedError(SiteError):
    """A part died so often, or so early, that starting it again makes no sense."""

    code = "part_failed"


@dataclass(frozen=True)
class Part:
    """One child process of a running system."""

    name: str  # as shown, and the name of its log file
    command: tuple[str, ...]  # program and arguments
    ready: tuple[str, ...] = ()  # dotted keys that it records in run/addresses.json once it can be used
    needs_tables: bool = False  # whether Django's tables have to be up to date before it starts
    holds_tasks: bool = False  # whether it has to start anew when a task file changes
    reload: signal.Signals | None = None  # what makes it load its code anew; None = it has to be ended and started
    ends: int = 0  # a part is told to end after those with a lower number, which need it to end in order


@dataclass
class RestartPolicy:
    """Decides how long to wait before a part that died is started again, or that it is hopeless.

    Pauses double from `first_s` to `most_s`; a part that lived for `calm_s` starts over. `deaths` deaths in a row
    without such a life are one too many.
    """

    first_s: float = 0.5
    most_s: float = 15.0
    calm_s: float = 30.0
    deaths: int = 6
    seen: int = 0

    def died(self, lived_s: float) -> float | None:
        """The pause before the next start in seconds, or None to give up."""
        self.seen = 1 if lived_s >= self.calm_s else self.seen + 1
        if self.seen >= self.deaths:
            return None
        return min(self.first_s * 2.0 ** (self.seen - 1), self.most_s)


@dataclass
class _Child:
    part: Part
    colour: str
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    pid: int | None = None  # None while it does not run
    started: float = 0.0  # monotonic
    start_again_at: float | None = None  # monotonic; None when no start is due
    wanted_stop: bool = False  # it is being stopped on purpose
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED_LINES))
    shown: bool = False  # whether the last line of its log was worth showing


class Supervisor:
    """Owns the child processes. All methods belong to one thread; `step` and `stop` block for a bounded time.

    Everything that the parts print goes to `log/<name>.log` in the home folder; warnings and errors, and all when
    `verbose`, are shown as well.
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
        self._logs: dict[str, Path] = {}
        folder.log.mkdir(parents=True, exist_ok=True)

    def start(self, part: Part) -> None:
        """Start a part; what becomes of it is learnt by `step`."""
        child = _Child(part, next(self._colours))
        self._children[part.name] = child
        self._logs[part.name] = self._folder.log / f"{part.name}.log"
        self._launch(child)

    def step(self, timeout_s: float = 0.2) -> None:
        """Handle what the children said within `timeout_s`, and start again what is due.

        Raises `PartFailedError` when a part is hopeless.
        """
        try:
            self._handle(self._events.get(timeout=timeout_s))
            while True:
                self._handle(self._events.get_nowait())
        except queue.Empty:
            pass
        now = time.monotonic()
        for child in self._children.values():
            if child.start_again_at is not None and child.start_again_at <= now:
                child.start_again_at = None
                self._launch(child)

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Step until `condition` holds. Raises `PartFailedError` after `timeout_s`, naming `what`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise ProcessFailedError(
                    f"{what} was not ready within {timeout_s:.0f} s; see the files in {self._folder.log}"
                )
            self.step(0.05)

    def restart_task_holders(self) -> None:
        """Make every part that has task code in memory load it anew, by a start of its own where need be."""
        for child in self._children.values():
            if not child.part.holds_tasks or child.pid is None:
                continue
            if child.part.reload is not None:
                os.kill(child.pid, child.part.reload)
            else:
                child.wanted_stop = True
                _signal(child.pid, signal.SIGTERM)

    def stop(self, last: str | None = None) -> None:
        """End every child: SIGTERM, then SIGKILL after `TERMINATE_WAIT_S`; the part named `last` after the others.

        They are told in the order of `Part.ends`, so that what is under way ends in order and the last measurements
        find somebody to take them.
        """
        others = [child for name, child in self._children.items() if name != last]
        self._end(others, TERMINATE_WAIT_S)
        if last in self._children:
            self._end([self._children[last]], LAST_WAIT_S)

    def running(self) -> dict[str, int]:
        """Process id of each part that runs, by name."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own."""
        now = datetime.datetime.now()  # noqa: DTZ005 - shown to a person, in the zone of the terminal
        self._printer.write(Message("line", text, now, "zarkov", None))

    def show(self, text: str) -> None:
        """Print `text` as it is, so that it can be copied."""
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
        child.wanted_stop = False
        child.lines.clear()
        threading.Thread(target=process.run, args=(self._events,), name=child.part.name, daemon=True).start()

    def _handle(self, message: Message) -> None:
        child = self._children[message.name]
        if message.type == "start":
            child.pid = message.data["pid"]
        elif message.type == "line":
            self._line(child, message)
        elif message.type == "stop":
            child.pid = None
            self._died(child, message.data["returncode"])

    def _line(self, child: _Child, message: Message) -> None:
        text = message.data.decode("utf-8", "replace").rstrip()
        child.lines.append(text)
        self._write(child.part.name, text)
        if match := _LEVEL.match(text):
            child.shown = match[1] not in _QUIET
        if self._verbose or child.shown:
            self._printer.write(message._replace(data=text))

    def _write(self, name: str, text: str) -> None:
        """Add a line to a part's log file, which is put aside as `.1` when it has grown to `LOG_BYTES`."""
        log = self._logs[name]
        with log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            full = file.tell() > LOG_BYTES
        if full:
            log.replace(log.with_suffix(".log.1"))

    def _died(self, child: _Child, code: int) -> None:
        if child.wanted_stop:
            child.start_again_at = time.monotonic()
            return
        lived_s = time.monotonic() - child.started
        pause_s = child.policy.died(lived_s)
        log = self._logs[child.part.name]
        reason = f"{child.part.name} ended with {_cause(code)} after {lived_s:.1f} s"
        said = "".join(f"\n    {line}" for line in child.lines)
        if pause_s is None:
            raise ProcessFailedError(
                f"{reason}, {child.policy.seen} times in a row. Its last words (all of them in {log}):{said}\n"
                f"Mend what they name, or try it alone: {shlex.join(child.part.command)}"
            )
        self.say(f"{reason}; it is started again in {pause_s:g} s. Its last words (more in {log}):{said}")
        child.start_again_at = time.monotonic() + pause_s

    def _end(self, children: list[_Child], wait_s: float) -> None:
        for child in children:
            child.start_again_at = None
        self._take_in(0.0)
        turns = sorted({child.part.ends for child in children if child.pid is not None})
        began, alone_s = time.monotonic(), min(ALONE_S, wait_s)
        for index, turn in enumerate(turns):
            told = [child for child in children if child.part.ends == turn]
            self._terminate(told)
            share = index / max(1, len(turns) - 1)
            self._wait_for(told, began + alone_s + (wait_s - alone_s) * share)
        self._wait_for(children, began + wait_s)
        for child in children:
            if child.pid is not None:
                self.say(f"{child.part.name} did not end within {wait_s:g} s and is killed")
                _kill(child.pid)
        self._wait_for(children, time.monotonic() + 1.0)

    def _terminate(self, children: list[_Child]) -> None:
        for child in children:
            if child.pid is not None:
                _signal(child.pid, signal.SIGTERM)

    def _wait_for(self, children: list[_Child], deadline: float) -> None:
        """Until all of them have ended, at most until `deadline`."""
        while any(child.pid is not None for child in children) and time.monotonic() < deadline:
            self._take_in(0.05)

    def _take_in(self, timeout_s: float) -> None:
        """Learn which children ended, without starting any again."""
        try:
            while True:
                message = self._events.get(timeout=timeout_s) if timeout_s else self._events.get_nowait()
                child = self._children[message.name]
                if message.type == "line":
                    self._line(child, message)
                else:
                    child.pid = message.data.get("pid")
        except queue.Empty:
            return


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that honcho made for a child."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _kill(pid: int) -> None:
    """End a child by force with all that it has started, also what has left its process group, as mongod does."""
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(pid).children(recursive=True)
    _signal(pid, signal.SIGKILL)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
