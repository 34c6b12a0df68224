"""Watch one feed: keep its state, the messages that lead to it, and the viewers to wake up.

Threads here are greenlets under gunicorn's gevent worker, which patches `threading` before this module is imported.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aggregates.web.exceptions import WebError
from aggregates.web.live.feed import Feed, Notice, StreamMessage
from aggregates.web.live.state_budget import StateBudget

log = logging.getLogger(__name__)

KEPT_MESSAGES = 200  # a viewer that is further behind gets the whole state instead
KEPT_BYTES = 2**20  # of these messages; no more than the state has, beyond `LEAST_KEPT_BYTES`
LEAST_KEPT_BYTES = 2**15


@dataclass(frozen=True)
class SendPacing:
    """Time limits of a channel, in seconds."""

    least_pause_s: float = 0.1  # minimum time between two reads
    poll_s: float = 2.0  # time between two checks of the stamp
    reread_s: float = 30.0  # time after which the feed is read without a notice or a new stamp
    linger_s: float = 10.0  # time for which a channel without viewers stays open, in case they reconnect


class FeedChannel:
    """Read a feed each time it may have changed, once for all viewers. Any thread may call any method.

    Messages are numbered from 1: message n takes a viewer from version n - 1 to version n. `uid` identifies the channel
    in event ids.
    """

    def __init__(
        self, feed: Feed, uid: str, pace: SendPacing, budget: StateBudget, close: Callable[[FeedChannel], None]
    ) -> None:
        self.feed = feed
        self.uid = uid
        self._pace = pace
        self._budget = budget
        self._poll_s = getattr(feed, "poll_s", pace.poll_s)
        self._on_close = close
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._log: deque[tuple[int, StreamMessage]] = deque()
        self._log_bytes = 0
        self._state: Any = None
        # The whole state, made once for all new viewers and kept while it is on the way to one of them.
        self._whole: weakref.ref[StreamMessage] | None = None
        self._version = 0  # 0 = nothing read yet
        self.error: WebError | None = None  # of the last read, after which the state is out of date
        self._viewers: set[threading.Event] = set()
        self._empty_since = time.monotonic()
        self._stamp: Any = None
        self._read_at = 0.0
        self.closed = False
        self.reads = 0  # number of times the feed was read

    def start(self) -> None:
        """Start the thread that watches the feed."""
        threading.Thread(target=self._run, name=f"live-{self.uid}", daemon=True).start()

    def stop(self) -> None:
        """End the channel and with it the streams of all its viewers."""
        with self._lock:
            self.closed = True
            for viewer in self._viewers:
                viewer.set()
        self._wake.set()

    @property
    def viewers(self) -> int:
        """Return the number of streams that watch the channel."""
        return len(self._viewers)

    def add(self, viewer: threading.Event) -> bool:
        """Set `viewer` at every change from now on. Return False if the channel has ended: use another."""
        with self._lock:
            if self.closed:
                return False
            self._viewers.add(viewer)
            return True

    def remove(self, viewer: threading.Event) -> None:
        with self._lock:
            self._viewers.discard(viewer)
            self._empty_since = time.monotonic()

    def handle_notice(self, notice: Notice) -> None:
        """Schedule a read if the notice concerns the feed."""
        if self.feed.concerns(notice):
            self._wake.set()

    def since(self, version: int) -> tuple[int, list[StreamMessage]]:
        """Return the current version and the messages that lead to it from `version` (0 = nothing received yet)."""
        with self._lock:
            if self.error is not None and self._version == 0:
                return 0, []
            if version == self._version:
                return version, []
            missing = [message for number, message in self._log if number > version]
            if 0 < version < self._version and len(missing) == self._version - version:
                return self._version, missing
            if not self._version:
                return 0, []
            whole = self._whole() if self._whole is not None else None
            if whole is None:
                whole = self.feed.whole(self._state)
                self._whole = weakref.ref(whole)
            return self._version, [whole]

    def _run(self) -> None:
        try:
            while not self.closed:
                self._wake.clear()
                self._read()
                self.closed = self.closed or self._await_change()
        finally:  # whatever ended it: viewers get another channel when they reconnect
            self._on_close(self)
            self.stop()
            self._budget.release(self)

    def _await_change(self) -> bool:
        """Wait until it is time to read again. Return True if the channel must end instead."""
        pause_s = self._read_at + self._pace.least_pause_s - time.monotonic()
        if pause_s > 0:
            threading.Event().wait(pause_s)
        while not self._wake.wait(self._poll_s):
            now = time.monotonic()
            with self._lock:
                if not self._viewers and now - self._empty_since > self._pace.linger_s:
                    self.closed = True
                    return True
            if now - self._read_at > self._pace.reread_s or self._stamp_changed():
                return False
        return self.closed

    def _stamp_changed(self) -> bool:
        try:
            stamp = self.feed.stamp()
        except Exception:  # noqa: BLE001 - the next read reports the error
            return True
        return stamp is not None and stamp != self._stamp

    def _read(self) -> None:
        try:
            self._stamp = self.feed.stamp()
            state = self.feed.read()
            size_bytes = getattr(state, "size_bytes", 0)
            self._budget.keep(self, size_bytes + min(size_bytes, KEPT_BYTES))
            # After an error all viewers get the whole state, changed or not, so that they know it is current again.
            known = self._version > 0 and self.error is None
            message = self.feed.change(self._state, state) if known else self.feed.whole(state)
        except WebError as error:
            self._record_error(error)
            return
        except Exception as error:  # noqa: BLE001 - loop edge: a stream must survive MongoDB errors
            log.warning("live read failed channel=%s error=%s", self.uid, error)
            self._record_error(WebError("the data cannot be read at the moment"))
            return
        finally:
            self.reads += 1
            self._read_at = time.monotonic()
        with self._lock:
            self.error = None
            if message is None:
                return
            self._state = state
            self._whole = None if known else weakref.ref(message)
            self._version += 1
            self._keep(message, max(min(size_bytes, KEPT_BYTES), LEAST_KEPT_BYTES))
            for viewer in self._viewers:
                viewer.set()

    def _keep(self, message: StreamMessage, most_bytes: int) -> None:
        """Keep a message for viewers that are behind, at the cost of older ones; none that is too large itself."""
        self._log.append((self._version, message))
        self._log_bytes += len(message.data)
        while self._log_bytes > most_bytes or len(self._log) > KEPT_MESSAGES:
            self._log_bytes -= len(self._log.popleft()[1].data)

    def _record_error(self, error: WebError) -> None:
        with self._lock:
            self.error = error
            for viewer in self._viewers:
                viewer.set()
