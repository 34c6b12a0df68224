"""Decide which connections to hold while a process has too much memory: those that send much, which then take turns.

A message is read only once all of it has arrived, so holding everybody could leave every message half arrived. One
connection at a time has its turn, until a large message has been read or its sender pauses. Were the turn to end
earlier, all large messages would arrive side by side, and take memory together. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ingest.transport.connection_hold import Connection, Window

LIGHT_BYTES = 64 * 2**10  # who sends less than this from one look to the next is not held at first
HANDSHAKE_BYTES = 1_024  # a connection that has sent no more is still being made
LARGE_BYTES = LIGHT_BYTES  # a message of this size or more ends a turn
TURN_BYTES = 80 * 2**20  # a turn ends after so much: the largest message that arrives (`ingest.server.socket_reader`)
TURN_BYTES_PER_S = 64 * 2**20  # what a sender that is slowed again would leave of its next message is little then
SILENT_S = 1.0  # a turn ends once its sender has sent little for so long
LITTLE_BYTES = 4_096  # from one look to the next
LOOK_S = 0.05  # these numbers are for looks at most so far apart, and grow with the time if one is late
# After so long without a turn there is one even if messages never cease to wait, but only once as much has been read as
# the last one brought: those may be slow to read, and what waits would grow with each turn.
STARVED_S = 1.0
# Opened at a look, once there is memory: this number, or this part of those that are held. All at once would fill it.
RELEASED_COUNT, RELEASED_SHARE = 2, 16
RELEASED_BYTES = 16 * 2**20  # connections are opened again once there is so much less than allowed
STRICT_BYTES = 32 * 2**20  # above what is allowed: from here on everybody is held who sends more than a little
# Above what is allowed: from here on those that are held and not read are shut if they are heavy.
SHUT_BYTES = 96 * 2**20
# Above what is allowed: from here on the newest of those that are held are ended, this part of them at a look. A sender
# that leaves while it is held would otherwise leave a message half arrived for minutes, and be followed by another.
# From here on also light ones that are held and not read are shut.
END_BYTES = 256 * 2**20
END_SHARE = 16
# Above what is allowed: from here on nobody can connect. A newcomer may send a large message before it is held, and
# what has arrived whole stays until it is read, also if its sender is ended.
REFUSE_BYTES = 192 * 2**20
LOSSY_END_BYTES = 48 * 2**20  # the same where messages may be dropped, because there memory does not come back
SHUT_S = 30.0  # then a shut connection may send some bytes, so that TCP does not give it up


class Reading(Enum):
    """Say whether the messages of a socket are being read."""

    PAUSED = "paused"  # they are not read
    BUSY = "busy"  # they are read, and more may be waiting
    IDLE = "idle"  # none is waiting
    TURNLESS = "turnless"  # they are read, and who sends much waits until there is memory, without turns
    LOSSY = "lossy"  # the same, and they may be dropped


@dataclass(frozen=True, slots=True)
class Progress:
    """Report how far the reading of a socket has come."""

    reading: Reading
    large_count: int = 0  # messages of `LARGE_BYTES` or more that were read so far
    read_bytes: int = 0  # so far

    def without_turns(self) -> Progress:
        """Return the same for a time in which nobody who sends much may send."""
        return self if self.reading is Reading.PAUSED else replace(self, reading=Reading.TURNLESS)


MAY_BE_DROPPED = Progress(Reading.LOSSY)  # what subscribers and publishers of measurements send
_WITHOUT_TURNS = frozenset({Reading.PAUSED, Reading.TURNLESS, Reading.LOSSY})


@dataclass(slots=True)
class _Turn:
    cookie: int
    large_count: int  # when it began
    began_s: float
    heard_s: float  # when its sender sent last, or when it began
    received_bytes: int = 0


class HoldDecision:
    """Remember the connections from look to look. Belongs to one thread at a time; times are of any one clock."""

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}  # by cookie, of those that are held, those that have waited longest first
        self._received: dict[int, int] = {}
        self._shut_s: dict[int, float] = {}  # since when each was shut
        self._heavy: set[int] = set()  # those that have once sent `LIGHT_BYTES` from one look to the next
        self._sending: set[int] = set()  # those that have sent something since they were held, or had their turn
        self.refuses_newcomers = False  # whether nobody may connect now
        self._turn: _Turn | None = None
        self._looked_s = 0.0
        self._turn_s = 0.0  # when the last turn ended, or the first connection was held
        self._enough_read = 0  # how many bytes are read once all is that the last turn brought

    @property
    def has_turn(self) -> bool:
        """Return whether a connection has its turn now."""
        return self._turn is not None

    def decide(
        self, connections: Sequence[Connection], excess_bytes: int, progress: Mapping[str, Progress], now: float
    ) -> dict[int, Window]:
        """Return by cookie the windows to change. `excess_bytes` is the memory above what is allowed, or below it.

        `progress` is by address.
        """
        before = dict(self.windows)
        if not self.windows:
            self._turn_s = now
        self.refuses_newcomers = excess_bytes >= REFUSE_BYTES - RELEASED_BYTES * self.refuses_newcomers
        moved = {each.cookie: self._moved(each) for each in connections}
        self._received = {each.cookie: each.received_bytes for each in connections}
        self.windows = {cookie: window for cookie, window in self.windows.items() if cookie in moved}
        self._heavy = {cookie for cookie in self._heavy if cookie in moved}
        self._shut_s = {cookie: since for cookie, since in self._shut_s.items() if cookie in moved}
        self._sending = {cookie for cookie in self.windows if moved[cookie] or cookie in self._sending}
        if excess_bytes < -RELEASED_BYTES:
            self._turn = None
            for cookie in list(self.windows)[: max(RELEASED_COUNT, len(self.windows) // RELEASED_SHARE)]:
                del self.windows[cookie]
        else:
            readable = {each.cookie for each in connections if progress[each.address].reading not in _WITHOUT_TURNS}
            self._end_turn(moved, readable, progress.values(), now)
            if excess_bytes >= 0:
                self._hold(connections, moved, excess_bytes, progress, now - self._looked_s)
            self._begin_turn(readable, progress.values(), now)
            self._shut(moved, readable, excess_bytes, now)
            if excess_bytes >= LOSSY_END_BYTES:
                lossy = {address for address, each in progress.items() if each.reading is Reading.LOSSY}
                much = [
                    each.cookie for each in connections if each.address in lossy and each.received_bytes >= LARGE_BYTES
                ]
                self._end(much if excess_bytes < END_BYTES else {*much, *self._heavy})
        self._looked_s = now
        changed = {cookie: window for cookie, window in self.windows.items() if before.get(cookie) is not window}
        return changed | {cookie: Window.OPEN for cookie in before if cookie in moved and cookie not in self.windows}

    def _moved(self, each: Connection) -> int:
        """Return how much has arrived since the last look."""
        return each.received_bytes - self._received.get(each.cookie, 0) if each.received_bytes > HANDSHAKE_BYTES else 0

    def _hold(
        self,
        connections: Sequence[Connection],
        moved: Mapping[int, int],
        excess: int,
        progress: Mapping[str, Progress],
        since_s: float,
    ) -> None:
        factor = max(1.0, since_s / LOOK_S)
        light = max(LITTLE_BYTES, LIGHT_BYTES * (STRICT_BYTES - excess) // STRICT_BYTES) * factor
        for each in connections:
            if moved[each.cookie] >= LIGHT_BYTES * factor:
                self._heavy.add(each.cookie)
            paused = progress[each.address].reading is Reading.PAUSED
            if moved[each.cookie] >= (1 if paused else light):
                self.windows.setdefault(each.cookie, Window.HELD)
                self._sending.add(each.cookie)

    def _end_turn(
        self, moved: Mapping[int, int], readable: set[int], progress: Collection[Progress], now: float
    ) -> None:
        """End the turn once a large message was read, or so much has come that one should be, or nothing comes."""
        turn = self._turn
        if turn is None:
            return
        if turn.cookie in self.windows:
            turn.received_bytes += moved[turn.cookie]
            if moved[turn.cookie] >= LITTLE_BYTES:
                turn.heard_s = now
            large_was_read = sum(each.large_count for each in progress) > turn.large_count
            if turn.received_bytes >= LIGHT_BYTES:
                self._heavy.add(turn.cookie)
            has_ended = large_was_read or turn.received_bytes >= TURN_BYTES
            if not has_ended and readable.isdisjoint(self.windows):
                # Nobody is read now. Were it to lose its turn, each pause would leave one more message half arrived.
                self.windows[turn.cookie], turn.heard_s = Window.HELD, now
                return
            if not has_ended and now - turn.heard_s < SILENT_S and turn.cookie in readable:
                may_send = turn.received_bytes < TURN_BYTES_PER_S * (now - turn.began_s)
                self.windows[turn.cookie] = Window.NARROW if may_send else Window.HELD
                return
            del self.windows[turn.cookie]
            if has_ended or turn.received_bytes >= LIGHT_BYTES or turn.cookie not in readable:
                self.windows[turn.cookie] = Window.HELD  # the last in the line
            self._sending.discard(turn.cookie)
        self._turn, self._turn_s = None, now
        self._enough_read = sum(each.read_bytes for each in progress) + turn.received_bytes

    def _begin_turn(self, readable: set[int], progress: Collection[Progress], now: float) -> None:
        """Give the turn to the connection that has waited longest, among those that send and are read."""
        if self._turn is not None:
            return
        if any(each.reading is Reading.BUSY for each in progress):
            is_read = sum(each.read_bytes for each in progress) >= self._enough_read
            if now - self._turn_s < STARVED_S or not is_read:
                return
        for cookie in self.windows:
            if cookie in readable and cookie in self._sending:
                self._turn = _Turn(cookie, sum(each.large_count for each in progress), now, now)
                self.windows[cookie] = Window.NARROW
                return

    def _end(self, cookies: Iterable[int]) -> None:
        """End some of these that are held, the newest first, as the kernel counts sockets."""
        held = sorted((cookie for cookie in cookies if cookie in self.windows), reverse=True)
        for cookie in held[: 1 + len(held) // END_SHARE]:
            self.windows[cookie] = Window.ENDED

    def _shut(self, moved: Mapping[int, int], readable: set[int], excess_bytes: int, now: float) -> None:
        """Shut those that are held and not read while there is far too much memory, with a moment now and then."""
        for cookie, window in self.windows.items():
            limit = SHUT_BYTES if cookie in self._heavy else END_BYTES
            if window is Window.HELD and cookie not in readable and excess_bytes >= limit:
                if moved[cookie] or cookie not in self._shut_s:
                    self.windows[cookie], self._shut_s[cookie] = Window.SHUT, now
            elif window is Window.SHUT:
                due = now - self._shut_s[cookie] >= SHUT_S
                if due or cookie in readable or excess_bytes < limit - RELEASED_BYTES:
                    self.windows[cookie] = Window.HELD
