"""One watched question: its state, the messages that lead to it, and the viewers to wake up.

Threads here are greenlets under gunicorn's gevent worker, which patches `threading` before this is imported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aggregates.web.exceptions import WebError
from aggregates.web.live.feed import Feed, Notice, StreamMessage

log = logging.getLogger(__name__)

KEPT_MESSAGES = 200  # a viewer further behind gets the whole state instead


@dataclass(frozen=True)
class SendPacing:
    """How often a channel looks, in seconds."""

    least_pause_s: float = 0.1  # between two reads
    poll_s: float = 2.0  # without a notice: is the stamp another?
    reread_s: float = 30.0  # without a notice and a stamp, or when the answer slides with the clock
    linger_s: float = 10.0  # after the last viewer left, for those who come back


class LiveChannel:
    """Reads its feed whenever it may have changed, once for all viewers. All methods may be called by any thread.

    Messages are numbered from 1; number n leads a viewer who has n - 1 to state n. `uid` says whose numbers they are.
    """

    def __init__(self, feed: Feed, uid: str, pace: SendPacing, close: Callable[[LiveChannel], None]) -> None:
        self.feed = feed
        self.uid = uid
        self._pace = pace
        self._poll_s = getattr(feed, "poll_s", pace.poll_s)
        self._on_close = close
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._log: deque[tuple[int, StreamMessage]] = deque(maxlen=KEPT_MESSAGES)
        self._state: Any = None
        self._whole: StreamMessage | None = None  # all of the state, made once for all who come new
        self._version = 0  # 0 = nothing read yet
        self._error: WebError | None = None
        self._viewers: set[threading.Event] = set()
        self._empty_since = time.monotonic()
        self._stamp: Any = None
        self._read_at = 0.0
        self._closed = False
        self.reads = 0  # how often the feed was read

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name=f"live-{self.uid}", daemon=True).start()

    def stop(self) -> None:
        """End; viewers see the end of their stream."""
        with self._lock:
            self._closed = True
            for viewer in self._viewers:
                viewer.set()
        self._wake.set()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    @property
    def viewers(self) -> int:
        """How many streams watch it."""
        return len(self._viewers)

    def add(self, viewer: threading.Event) -> bool:
        """Let `viewer` be set at every change. False when the channel has just ended: take another."""
        with self._lock:
            if self._closed:
                return False
            self._viewers.add(viewer)
            return True

    def remove(self, viewer: threading.Event) -> None:
        """Forget a viewer."""
        with self._lock:
            self._viewers.discard(viewer)
            self._empty_since = time.monotonic()

    def notice(self, notice: Notice) -> None:
        """Read again soon if the notice concerns the feed."""
        if self.feed.concerns(notice):
            self._wake.set()

    def since(self, version: int) -> tuple[int, list[StreamMessage]]:
        """The version now, and the messages that lead from `version` to it; 0 = has nothing."""
        with self._lock:
            if self._error is not None and self._version == 0:
                return 0, []
            if version == self._version:
                return version, []
            missing = [message for number, message in self._log if number > version]
            if 0 < version < self._version and len(missing) == self._version - version:
                return self._version, missing
            if self._whole is None and self._version:
                self._whole = self.feed.whole(self._state)
            return self._version, [self._whole] if self._whole is not None else []

    @property
    def error(self) -> WebError | None:
        """Why the state cannot be read, so that the one before is old; None when all is well."""
        return self._error

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            self._read()
            self._closed = self._closed or self._await_change()
        self._on_close(self)
        self.stop()

    def _await_change(self) -> bool:
        """Wait until it is time to read again; return whether the channel has to end instead."""
        pause_s = self._read_at + self._pace.least_pause_s - time.monotonic()
        if pause_s > 0:
            threading.Event().wait(pause_s)
        while not self._wake.wait(self._poll_s):
            now = time.monotonic()
            with self._lock:
                if not self._viewers and now - self._empty_since > self._pace.linger_s:
                    self._closed = True
                    return True
            if now - self._read_at > self._pace.reread_s or self._moved():
                return False
        return self._closed

    def _moved(self) -> bool:
        try:
            stamp = self.feed.stamp()
        except Exception:  # noqa: BLE001 - the read that follows says what is wrong
            return True
        return stamp is not None and stamp != self._stamp

    def _read(self) -> None:
        try:
            self._stamp = self.feed.stamp()
            state = self.feed.read()
        except WebError as error:
            self._fail(error)
            return
        except Exception as error:  # noqa: BLE001 - the edge of this loop: a stream outlives a fault of MongoDB
            log.warning("live channel %s cannot read: %s", self.uid, error)
            self._fail(WebError("the data cannot be read at the moment"))
            return
        finally:
            self.reads += 1
            self._read_at = time.monotonic()
        # After an error all viewers get the whole again, changed or not: it says that what they see is current.
        known = self._version > 0 and self._error is None
        message = self.feed.change(self._state, state) if known else self.feed.whole(state)
        with self._lock:
            self._error = None
            if message is None:
                return
            self._state = state
            self._whole = None
            self._version += 1
            self._log.append((self._version, message))
            for viewer in self._viewers:
                viewer.set()

    def _fail(self, error: WebError) -> None:
        with self._lock:
            self._error = error
            for viewer in self._viewers:
                viewer.set()
