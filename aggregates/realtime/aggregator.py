"""Keeps realtime aggregates current: hears notices, starts refreshes, writes down what came of them.

Which one is refreshed when is decided by `pacing`; how, by `run`. The loop of this module only passes messages.
"""

from __future__ import annotations

import logging
import queue
import time
import traceback as tracebacks
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections, connections
from django.db.models import Count, Max

from aggregates.exceptions import AggregateError, BusyError, LeaseLostError
from aggregates.models import AggDef, TaskSwitch
from aggregates.realtime.listener import CommitListener
from aggregates.realtime.refresh_scheduler import RefreshScheduler, RefreshTarget
from aggregates.resource import Resources
from aggregates.run.inputs import behind_inputs
from aggregates.run.outcome import Outcome
from aggregates.services.announcer import Announcer
from aggregates.services.history import note_realtime_failure, note_refresh
from aggregates.services.perform import make_current
from ingest.metrics import own
from mapreduce.exceptions import MapReduceError

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8  # refreshes
POLL_S = 1.0  # pause in notices after which the watermark is looked at; inputs that are aggregates are, in any case
RELOAD_S = 1.0  # between two looks whether definitions have changed
COPY_S = 1.0  # between two copies of one aggregate's position into Django's tables
STOP_WITHIN_S = 10.0  # for refreshes that are under way at the end
TICK_S = 0.5  # longest wait, so that the wish to stop is seen


@dataclass(frozen=True)
class EventsReadable:
    """Events up to `through` may be read."""

    through: int


@dataclass(frozen=True)
class InputsCompared:
    """Which of those that read aggregates lack something of them; None = an input has not run yet."""

    behind: dict[str, bool | None]


@dataclass(frozen=True)
class RefreshEnded:
    """A refresh ended, well (`outcome`) or not (`error`)."""

    name: str
    outcome: Outcome | None = None
    error: Exception | None = None
    trace: str = ""


class Aggregator:
    """The realtime service of one process. Several may run: each refresh is done by the one that has the lease."""

    def __init__(self, resources: Resources, config: Any) -> None:
        self._resources = resources
        self._messages: queue.SimpleQueue[EventsReadable | InputsCompared | RefreshEnded] = queue.SimpleQueue()
        self._refresh_scheduler = RefreshScheduler(
            refresh_min_s=config.refresh_min_ms / 1000, incremental=config.incremental, most_at_once=MOST_AT_ONCE
        )
        self._listener = CommitListener(
            lambda: config.connect_address("publish_bind_address"),
            lambda through: self._messages.put(EventsReadable(through)),
            config.client_keys(),
        )
        self._announcer = Announcer(lambda: config.connect_address("bson_bind_address"), config.client_keys)
        self._pool = futures.ThreadPoolExecutor(MOST_AT_ONCE + 2, thread_name_prefix="refresh")
        self._under_way: set[futures.Future[Any]] = set()
        self._aggdefs: dict[str, AggDef] = {}
        self._unwritten: dict[str, list[Outcome]] = {}
        self._written_at: dict[str, float] = {}
        self._reloaded_at = float("-inf")
        self._heard_at = float("-inf")
        self._polling = False
        self._compared_at = float("-inf")
        self._comparing = False
        self._over: dict[str, frozenset[str]] = {}  # what each of those that read aggregates reads
        self._fingerprint: Any = None
        self._started = False
        self._ended: bool | None = None  # all refreshes, once stopped

    def start(self) -> None:
        """Begin to listen; does not wait for ingester, router or MongoDB."""
        self._listener.start()
        self._started = True

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work until `stopped()`; then wait for the refreshes under way."""
        if not self._started:
            self.start()
        while not stopped():
            self.step(time.monotonic())
        self.stop()

    def stop(self) -> bool:
        """Let refreshes finish and write down what they did; may be called twice.

        False when some have not ended within `STOP_WITHIN_S`, such as those that wait for a MongoDB that is gone: their
        threads go on. What they had planned is resumed by the next start, as after a crash.
        """
        if self._ended is not None:
            return self._ended
        self._listener.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        _, still_running = futures.wait(list(self._under_way), STOP_WITHIN_S)
        while not self._messages.empty():
            self._take(self._messages.get(), time.monotonic())
        for name in list(self._unwritten):
            self._write(name)
        self._announcer.close()
        connections.close_all()
        self._ended = not still_running
        return self._ended

    def _submit(self, function: Callable[..., Any], *args: Any) -> None:
        started = self._pool.submit(function, *args)
        self._under_way.add(started)
        started.add_done_callback(self._under_way.discard)

    def step(self, now: float) -> None:
        """One turn: look after definitions and watermark, start what is due, take in what has ended."""
        if now - self._reloaded_at >= RELOAD_S:
            self._reloaded_at = now
            self._reload()
        if now - self._heard_at >= POLL_S and not self._polling:
            self._polling = True
            self._submit(self._poll)
        if self._over and now - self._compared_at >= POLL_S and not self._comparing:
            self._comparing, self._compared_at = True, now
            self._submit(self._compare)
        for name in self._refresh_scheduler.start(now):
            self._submit(self._refresh, self._aggdefs[name])
        for name in [n for n in self._unwritten if now - self._written_at.get(n, float("-inf")) >= COPY_S]:
            self._written_at[name] = now
            self._submit(self._write, name)
        self._wait(now)

    def _wait(self, now: float) -> None:
        wake = self._refresh_scheduler.wake_at()
        timeout = TICK_S if wake is None else min(max(wake - now, 0.0), TICK_S)
        try:
            message = self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait()
        except queue.Empty:
            return
        while True:
            self._take(message, time.monotonic())
            if self._messages.empty():
                return
            message = self._messages.get()

    # In the main thread

    def _reload(self) -> None:
        try:
            close_old_connections()
            fingerprint = (
                AggDef.objects.aggregate(Max("changed"), Count("pk")),
                TaskSwitch.objects.aggregate(Max("changed"), Count("pk")),
            )
            if fingerprint == self._fingerprint:
                return
            off = set(TaskSwitch.objects.filter(enabled=False).values_list("task_name", flat=True))
            found = {a.name: a for a in AggDef.objects.realtime() if a.task_name not in off}
        except Exception:
            log.exception("definitions could not be read, will try again")
            return
        self._fingerprint = fingerprint
        self._aggdefs = found
        target = [_target(aggdef) for aggdef in found.values()]
        self._over = {each.name: each.inputs for each in target if each.inputs}
        self._refresh_scheduler.define(target)

    def _take(self, message: EventsReadable | InputsCompared | RefreshEnded, now: float) -> None:
        if isinstance(message, EventsReadable):
            self._heard_at = now
            self._polling = False
            self._refresh_scheduler.available(message.through)
            return
        if isinstance(message, InputsCompared):
            self._comparing = False
            self._refresh_scheduler.compared(message.behind)
            return
        outcome = message.outcome
        if outcome is None:
            self._take_error(message, now)
            return
        if outcome.state == "blocked":
            self._refresh_scheduler.blocked(message.name, now)
        else:
            through = outcome.through if isinstance(outcome.through, int) else 0
            self._refresh_scheduler.succeeded(message.name, through, moved=outcome.state == "complete")
        if outcome.state == "complete":
            self._announcer.say(outcome)
        self._unwritten.setdefault(message.name, []).append(outcome)

    def _take_error(self, message: RefreshEnded, now: float) -> None:
        error = message.error
        if isinstance(error, BusyError | LeaseLostError):
            self._refresh_scheduler.busy(message.name, now)
            return
        pause = self._refresh_scheduler.failed(message.name, now)
        log.warning("%s failed, next attempt in %g s: %s", message.name, pause, error)

    # In threads of the pool

    def _poll(self) -> None:
        try:
            self._messages.put(EventsReadable(self._resources.run_context.store.watermark().through))
        except Exception as error:  # noqa: BLE001 - a loop's edge: MongoDB may be away for a while
            log.warning("the watermark could not be read: %s", error)
            self._polling = False

    def _compare(self) -> None:
        """Aggregates that others read may be refreshed by anyone: a command, the job queue, another aggregator."""
        try:
            self._messages.put(InputsCompared(behind_inputs(self._resources.run_context.position_store, self._over)))
        except Exception as error:  # noqa: BLE001 - a loop's edge: MongoDB may be away for a while
            log.warning("the positions of inputs could not be read: %s", error)
            self._comparing = False

    @own.timed("zarkov.aggregator.refresh")
    def _refresh(self, aggdef: AggDef) -> None:
        try:
            outcome = make_current(self._resources.run_context, aggdef.definition())
            self._messages.put(RefreshEnded(aggdef.name, outcome))
        except Exception as error:  # noqa: BLE001 - a loop's edge: shown at the aggregate, logged once by the loop
            self._messages.put(RefreshEnded(aggdef.name, error=error, trace=_trace(error)))
            if not isinstance(error, BusyError | LeaseLostError):
                self._write_failure(aggdef, error)

    def _write_failure(self, aggdef: AggDef, error: Exception) -> None:
        try:
            close_old_connections()
            note_realtime_failure(aggdef, error, _trace(error))
        except Exception:
            log.exception("the failure of %s could not be written down", aggdef.name)

    def _write(self, name: str) -> None:
        outcomes = self._unwritten.pop(name, [])
        aggdef = self._aggdefs.get(name)
        if not outcomes or aggdef is None:
            return
        try:
            close_old_connections()
            position = self._resources.run_context.position_store.of_aggdef(name)
            if position is not None:
                note_refresh(aggdef, outcomes, position)
        except Exception:
            log.exception("what the refresh of %s did could not be written down", name)


def _trace(error: Exception) -> str:
    if isinstance(error, AggregateError | MapReduceError):
        return str(getattr(error, "traceback", "") or "")
    return "".join(tracebacks.format_exception(error))


def _target(aggdef: AggDef) -> RefreshTarget:
    try:
        definition = aggdef.definition()
    except AggregateError:
        return RefreshTarget(aggdef.name, version=aggdef.changed)
    inputs = frozenset(name.removeprefix("zagg.") for name in definition.inputs if definition.kind == "aggregate")
    return RefreshTarget(aggdef.name, definition.kind, inputs, aggdef.changed)  # type: ignore[arg-type]
