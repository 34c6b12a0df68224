"""All channels of this process, and the one listener that tells them about notices."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping

from aggregates.web.json_encoding import to_json
from aggregates.web.live.channel import LiveChannel, SendPacing
from aggregates.web.live.feed import Feed, Notice, StreamMessage


class Hub:
    """Gives every feed one channel while it has viewers. Any thread may call any method."""

    def __init__(self, pace: SendPacing | None = None) -> None:
        self._pace = pace or SendPacing()
        self._lock = threading.Lock()
        self._channels: dict[Feed, LiveChannel] = {}
        self._past_reads = 0  # of channels that have ended

    @property
    def reads(self) -> int:
        """How often feeds were read since the process started."""
        return self._past_reads + sum(channel.reads for channel in self.channels())

    def watch(self, feeds: Mapping[str, Feed], last_event_id: str = "") -> Viewer:
        """A viewer of these feeds, each under a name of the viewer's own; it goes on after `last_event_id`."""
        return Viewer(self, feeds, _read_id(last_event_id))

    def notice(self, notice: Notice) -> None:
        """Tell every channel."""
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.notice(notice)

    def channel(self, feed: Feed) -> LiveChannel:
        """The channel of a feed, started now if there is none."""
        with self._lock:
            channel = self._channels.get(feed)
            if channel is None or channel.closed:
                channel = self._channels[feed] = LiveChannel(feed, secrets.token_hex(4), self._pace, self._forget)
                channel.start()
            return channel

    def channels(self) -> list[LiveChannel]:
        """All channels now."""
        with self._lock:
            return list(self._channels.values())

    def stop(self) -> None:
        """End all channels and with them all streams."""
        for channel in self.channels():
            channel.stop()

    def _forget(self, channel: LiveChannel) -> None:
        with self._lock:
            self._past_reads += channel.reads
            if self._channels.get(channel.feed) is channel:
                del self._channels[channel.feed]


class Viewer:
    """One open stream. Use it as a context manager, from one thread."""

    def __init__(self, hub: Hub, feeds: Mapping[str, Feed], have: dict[str, int]) -> None:
        self._changed = threading.Event()
        self._channels: dict[str, LiveChannel] = {}
        for name, feed in feeds.items():
            channel = hub.channel(feed)
            while not channel.add(self._changed):
                channel = hub.channel(feed)
            self._channels[name] = channel
        self._have = {name: have.get(channel.uid, 0) for name, channel in self._channels.items()}
        self._changed.set()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave all channels; may be called twice."""
        for channel in self._channels.values():
            channel.remove(self._changed)

    def wait(self, timeout_s: float) -> Iterator[tuple[str, str, StreamMessage]]:
        """`(name, event id, message)` of what came, after waiting at most `timeout_s` for something.

        The id stands on the last message of a batch only, so that it never promises more than was sent.
        Raises `EOFError` when a channel ended: the client connects again.
        """
        if not self._changed.wait(timeout_s):
            return
        self._changed.clear()
        for name, channel in self._channels.items():
            if channel.closed:
                raise EOFError
            if channel.error is not None:
                yield name, self._id(), StreamMessage("problem", _problem(channel))
            self._have[name], messages = channel.since(self._have[name])
            for message in messages[:-1]:
                yield name, "", message
            for message in messages[-1:]:
                yield name, self._id(), message

    def _id(self) -> str:
        return ",".join(f"{channel.uid}.{self._have[name]}" for name, channel in self._channels.items())


def _problem(channel: LiveChannel) -> bytes:
    return to_json(channel.error.body() if channel.error else {})


def _read_id(text: str) -> dict[str, int]:
    """What a client has, by channel, from the `Last-Event-ID` it sends; nonsense counts as nothing."""
    have = {}
    for part in text[:4096].split(","):
        uid, _, version = part.partition(".")
        if version.isascii() and version.isdigit() and len(version) < 16:
            have[uid] = int(version)
    return have
