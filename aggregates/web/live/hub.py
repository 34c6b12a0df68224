"""Hold the channels of this process and pass notices on to them."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping

from aggregates.web.exceptions import UnavailableError
from aggregates.web.json_encoding import to_json
from aggregates.web.live.feed import Feed, Notice, StreamMessage
from aggregates.web.live.feed_channel import FeedChannel, SendPacing
from aggregates.web.live.state_budget import StateBudget
from ingest.log_limit import LogLimit

log = logging.getLogger(__name__)
LOG_EVERY_S = 30.0
_log_limit = LogLimit(LOG_EVERY_S)


class Hub:
    """Give every feed one channel while it has viewers. Any thread may call any method."""

    def __init__(self, pace: SendPacing | None = None, budget: StateBudget | None = None) -> None:
        self._pace = pace or SendPacing()
        self._budget = budget or StateBudget()
        self._lock = threading.Lock()
        self._channels: dict[Feed, FeedChannel] = {}
        self._past_reads = 0  # of channels that have ended

    @property
    def reads(self) -> int:
        """Return the number of times feeds were read since the hub was created."""
        return self._past_reads + sum(channel.reads for channel in self.channels())

    def check_room(self, feeds: Iterable[Feed]) -> None:
        """Raise `UnavailableError` if some of `feeds` have no channel yet, and there is no memory for them."""
        with self._lock:
            if count := sum(feed not in self._channels for feed in feeds):
                self._budget.check_room(count)

    def watch(self, feeds: Mapping[str, Feed], last_event_id: str = "") -> Viewer:
        """Return a viewer of `feeds`, keyed by the names in its messages, that continues after `last_event_id`."""
        return Viewer(self, feeds, _read_id(last_event_id))

    def handle_notice(self, notice: Notice) -> None:
        """Pass the notice on to every channel."""
        for channel in self.channels():
            try:
                channel.handle_notice(notice)
            except Exception as error:  # one feed does not keep a notice from the others
                if _log_limit.allows(type(error).__name__):
                    log.exception("notice not handled channel=%s notice=%.200r", channel.uid, notice)

    def channel(self, feed: Feed) -> FeedChannel:
        """Return the channel of a feed, started now if there is none. Raise `UnavailableError` if memory is short."""
        with self._lock:
            channel = self._channels.get(feed)
            if channel is None or channel.closed:
                self._budget.check_room(1)
                channel = FeedChannel(feed, secrets.token_hex(4), self._pace, self._budget, self._remove_channel)
                self._budget.keep(channel, 0)
                self._channels[feed] = channel
                channel.start()
            return channel

    def channels(self) -> list[FeedChannel]:
        with self._lock:
            return list(self._channels.values())

    def stop(self) -> None:
        """End all channels, and with them all streams."""
        for channel in self.channels():
            channel.stop()

    def _remove_channel(self, channel: FeedChannel) -> None:
        with self._lock:
            self._past_reads += channel.reads
            if self._channels.get(channel.feed) is channel:
                del self._channels[channel.feed]


class Viewer:
    """One open stream. Use it as a context manager, from one thread."""

    def __init__(self, hub: Hub, feeds: Mapping[str, Feed], have: dict[str, int]) -> None:
        self._changed = threading.Event()
        self._channels: dict[str, FeedChannel] = {}
        try:
            for name, feed in feeds.items():
                channel = hub.channel(feed)
                while not channel.add(self._changed):
                    channel = hub.channel(feed)
                self._channels[name] = channel
        except UnavailableError:
            self.close()
            raise
        self._have = {name: have.get(channel.uid, 0) for name, channel in self._channels.items()}
        self._changed.set()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave all channels. Can be called twice."""
        for channel in self._channels.values():
            channel.remove(self._changed)

    def wait(self, timeout_s: float) -> Iterator[tuple[str, str, StreamMessage]]:
        """Yield `(name, event id, message)` for all that is new, after waiting at most `timeout_s` for a change.

        Only the last message of a batch has an id, so that an id never covers messages that were not sent.
        Raise `EOFError` if a channel has ended: the client has to reconnect.
        """
        if not self._changed.wait(timeout_s):
            return
        self._changed.clear()
        for name, channel in self._channels.items():
            if channel.closed:
                raise EOFError
            if (error := channel.error) is not None:
                yield name, self._id(), StreamMessage("problem", to_json(error.body()))
            self._have[name], messages = channel.since(self._have[name])
            for message in messages[:-1]:
                yield name, "", message
            for message in messages[-1:]:
                yield name, self._id(), message

    def _id(self) -> str:
        return ",".join(f"{channel.uid}.{self._have[name]}" for name, channel in self._channels.items())


def _read_id(text: str) -> dict[str, int]:
    """Parse a `Last-Event-ID` into the client's version by channel uid; invalid parts are ignored."""
    have = {}
    for part in text[:4096].split(","):
        uid, _, version = part.partition(".")
        if version.isascii() and version.isdigit() and len(version) < 16:
            have[uid] = int(version)
    return have
