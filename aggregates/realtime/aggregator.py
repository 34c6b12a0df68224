"""Run the realtime service: receive notices, start refreshes, record their outcomes.

`refresh_scheduler` decides which aggregate to refresh when, and `run` performs the refresh. The loop here only passes
messages.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import pymongo
from django.db import close_old_connections, connections
from django.db.models import Count, Max

from aggregates.exceptions import AggregateError, LeaseHeldError, LeaseLostError
from aggregates.models import AggDef, TaskSwitch
from aggregates.process_connections import ProcessConnections
from aggregates.realtime.refresh_scheduler import RefreshScheduler, RefreshTarget
from aggregates.run.inputs import behind_inputs
from aggregates.run.outcome import Outcome
from aggregates.services.announcer import Announcer
from aggregates.services.history import record_realtime_failure, record_refreshes
from aggregates.services.notice_listener import NoticeListener
from aggregates.services.perform import make_current
from ingest.metrics import own_metrics
from ingest.wire.command_check import COMMITTED

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8  # refreshes in parallel
POLL_S = 1.0  # time without notices before polling the watermark; also between comparisons with input aggregates
RELOAD_S = 1.0  # between two checks for changed definitions
COPY_S = 1.0  # between two copies of one aggregate's position into Django's tables
STOP_WITHIN_S = 3.0  # time for refreshes in progress to finish on stop
RECORD_WITHIN_S = 1.0  # time for recording the outcomes on stop, even if MongoDB hangs
TICK_S = 0.5  # longest wait before checking whether to stop


@dataclass(frozen=True)
class EventsReadable:
    """Events up to `through` can be read."""

    through: int


@dataclass(frozen=True)
class InputsCompared:
    """Result of `behind_inputs` for aggregates that read aggregates."""

    behind: dict[str, bool | None]  # None = an input has not run yet


@dataclass(frozen=True)
class RefreshEnded:
    """A refresh ended with an `outcome` or an `error`."""

    name: str
    outcome: Outcome | None = None
    error: BaseException | None = None


class Aggregator:
    """The realtime service of one process. Several can run: leases let only one of them do each refresh."""

    def __init__(self, process_connections: ProcessConnections, config: Any) -> None:
        self._connections = process_connections
        self._messages: queue.SimpleQueue[EventsReadable | InputsCompared | RefreshEnded] = queue.SimpleQueue()
        self._refresh_scheduler = RefreshScheduler(
            refresh_min_s=config.refresh_min_ms / 1000, incremental=config.incremental, most_at_once=MOST_AT_ONCE
        )
        self._listener = NoticeListener(
            lambda: config.connect_address("publish_bind_address"), self._take_notice, config.client_keys()
        )
        self._announcer = Announcer(lambda: config.connect_address("bson_bind_address"), config.client_keys)
        self._pool = futures.ThreadPoolExecutor(MOST_AT_ONCE + 2, thread_name_prefix="refresh")
        self._under_way: set[futures.Future[Any]] = set()
        self._aggdefs: dict[str, AggDef] = {}
        self._unrecorded: dict[str, list[Outcome]] = {}
        self._recorded_at: dict[str, float] = {}
        self._reloaded_at = float("-inf")
        self._notified_at = float("-inf")
        self._polling = False
        self._compared_at = float("-inf")
        self._comparing = False
        self._inputs: dict[str, frozenset[str]] = {}  # by aggregate: the aggregates that it reads
        self._fingerprint: Any = None
        self._started = False
        self._ended: bool | None = None  # once stopped: all refreshes ended in time

    def _take_notice(self, notice: dict[str, Any]) -> None:
        if notice.get("$command") == COMMITTED and isinstance(notice.get("through"), int):
            self._messages.put(EventsReadable(notice["through"]))

    def start(self) -> None:
        """Start listening; does not wait for ingester, router or MongoDB."""
        self._listener.start()
        self._started = True

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work until `stopped()`, then call `stop`. Block."""
        if not self._started:
            self.start()
        while not stopped():
            try:
                self.step(time.monotonic())
            except Exception:
                log.exception("turn failed, the next one follows")
                time.sleep(TICK_S)
        self.stop()

    def stop(self) -> bool:
        """Wait for refreshes in progress and record their outcomes. May be called twice.

        Return False if some have not ended within `STOP_WITHIN_S`, for example because MongoDB is down. Their threads
        continue, and the next start resumes their steps as after a crash.
        """
        if self._ended is not None:
            return self._ended
        self._listener.request_stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        _, still_running = futures.wait(list(self._under_way), STOP_WITHIN_S)
        self._listener.stop()
        while not self._messages.empty():
            self._handle_safely(self._messages.get())
        with pymongo.timeout(RECORD_WITHIN_S):
            for name in list(self._unrecorded):
                self._record(name)
        self._announcer.close()
        connections.close_all()
        self._ended = not still_running
        return self._ended

    def _submit(self, function: Callable[..., Any], *args: Any) -> None:
        started = self._pool.submit(function, *args)
        self._under_way.add(started)
        started.add_done_callback(self._under_way.discard)

    def step(self, now: float) -> None:
        """Check definitions and watermark, start due refreshes, handle messages. Block for up to `TICK_S`."""
        if now - self._reloaded_at >= RELOAD_S:
            self._reloaded_at = now
            self._reload()
        if now - self._notified_at >= POLL_S and not self._polling:
            self._polling = True
            self._submit(self._poll)
        if self._inputs and now - self._compared_at >= POLL_S and not self._comparing:
            self._comparing, self._compared_at = True, now
            self._submit(self._compare)
        for name in self._refresh_scheduler.start(now):
            self._submit(self._refresh, self._aggdefs[name])
        for name in [n for n in self._unrecorded if now - self._recorded_at.get(n, float("-inf")) >= COPY_S]:
            self._recorded_at[name] = now
            self._submit(self._record, name)
        self._wait(now)

    def _wait(self, now: float) -> None:
        wake = self._refresh_scheduler.wake_at()
        timeout = TICK_S if wake is None else min(max(wake - now, 0.0), TICK_S)
        try:
            message = self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait()
        except queue.Empty:
            return
        while True:
            self._handle_safely(message)
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
            log.exception("definitions not read, will try again")
            return
        self._fingerprint = fingerprint
        self._aggdefs = found
        targets = [_target(aggdef) for aggdef in found.values()]
        self._inputs = {each.name: each.inputs for each in targets if each.inputs}
        self._refresh_scheduler.define(targets)

    def _handle_safely(self, message: EventsReadable | InputsCompared | RefreshEnded) -> None:
        try:
            self._handle(message, time.monotonic())
        except Exception:
            log.exception("message not handled message=%.200r", message)
            if isinstance(message, RefreshEnded):
                self._refresh_scheduler.failed(message.name, time.monotonic())

    def _handle(self, message: EventsReadable | InputsCompared | RefreshEnded, now: float) -> None:
        if isinstance(message, EventsReadable):
            self._notified_at = now
            self._polling = False
            self._refresh_scheduler.events_readable(message.through)
            return
        if isinstance(message, InputsCompared):
            self._comparing = False
            self._refresh_scheduler.inputs_compared(message.behind)
            return
        outcome = message.outcome
        if outcome is None:
            self._handle_error(message, now)
            return
        if outcome.state == "blocked":
            self._refresh_scheduler.blocked(message.name, now)
        else:
            through = outcome.through if isinstance(outcome.through, int) else 0
            self._refresh_scheduler.succeeded(message.name, through, moved=outcome.state == "complete")
        if outcome.state == "complete":
            self._announcer.announce(outcome)
        self._unrecorded.setdefault(message.name, []).append(outcome)

    def _handle_error(self, message: RefreshEnded, now: float) -> None:
        error = message.error
        if isinstance(error, LeaseHeldError | LeaseLostError):
            self._refresh_scheduler.busy(message.name, now)
            return
        pause = self._refresh_scheduler.failed(message.name, now)
        log.warning("refresh failed aggregate=%s retry_in_s=%g error=%s", message.name, pause, error)

    # In threads of the pool

    def _poll(self) -> None:
        try:
            self._messages.put(EventsReadable(self._connections.run_context.store.watermark().through))
        except Exception as error:  # noqa: BLE001 - a loop's edge: MongoDB may be down for a while
            log.warning("watermark not read error=%s", error)
            self._polling = False

    def _compare(self) -> None:
        """Compare with input aggregates, which other processes can refresh too, such as commands and Celery workers."""
        try:
            self._messages.put(
                InputsCompared(behind_inputs(self._connections.run_context.position_store, self._inputs))
            )
        except Exception as error:  # noqa: BLE001 - a loop's edge: MongoDB may be down for a while
            log.warning("positions of inputs not read error=%s", error)
            self._comparing = False

    @own_metrics.timed("zarkov.aggregator.refresh")
    def _refresh(self, aggdef: AggDef) -> None:
        try:
            outcome = make_current(self._connections.run_context, aggdef.definition())
            self._messages.put(RefreshEnded(aggdef.name, outcome))
        except BaseException as error:  # noqa: BLE001 - a loop's edge: recorded in the AggDef, logged once by the loop
            self._messages.put(RefreshEnded(aggdef.name, error=error))
            if not isinstance(error, LeaseHeldError | LeaseLostError):
                self._record_failure(aggdef, error)

    def _record_failure(self, aggdef: AggDef, error: BaseException) -> None:
        try:
            close_old_connections()
            record_realtime_failure(aggdef, error)
        except Exception:
            log.exception("failure of refresh not recorded aggregate=%s", aggdef.name)

    def _record(self, name: str) -> None:
        outcomes = self._unrecorded.pop(name, [])
        aggdef = self._aggdefs.get(name)
        if not outcomes or aggdef is None:
            return
        try:
            close_old_connections()
            position = self._connections.run_context.position_store.find_by_aggdef(name)
            if position is not None:
                record_refreshes(aggdef, outcomes, position)
        except Exception:
            log.exception("outcome of refresh not recorded aggregate=%s", name)


def _target(aggdef: AggDef) -> RefreshTarget:
    try:
        definition = aggdef.definition()
    except Exception as error:  # noqa: BLE001 - whatever it is: the refresh reports it, and the others are defined
        if not isinstance(error, AggregateError):
            log.warning("definition not read aggregate=%s error=%r", aggdef.name, error)
        return RefreshTarget(aggdef.name, version=aggdef.changed)
    inputs = frozenset(name.removeprefix("zagg.") for name in definition.inputs if definition.kind == "aggregate")
    return RefreshTarget(aggdef.name, definition.kind, inputs, aggdef.changed)  # type: ignore[arg-type]
