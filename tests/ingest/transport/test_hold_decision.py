"""Which connections are held while memory is short, and whose turn it is."""

from __future__ import annotations

from ingest.server.socket_reader import LARGEST_BYTES
from ingest.transport.connection_hold import Connection, Window
from ingest.transport.hold_decision import (
    END_BYTES,
    LIGHT_BYTES,
    LITTLE_BYTES,
    LOOK_S,
    LOSSY_END_BYTES,
    REFUSE_BYTES,
    RELEASED_BYTES,
    SHUT_BYTES,
    SHUT_S,
    SILENT_S,
    STARVED_S,
    STRICT_BYTES,
    TURN_BYTES,
    TURN_BYTES_PER_S,
    HoldDecision,
    Progress,
    Reading,
)

MIB = 2**20
ENOUGH = -RELEASED_BYTES - 1  # memory with which all are released
A, B = "tcp://a", "tcp://b"
PAUSE_S = 0.01
Windows = dict[int, Window]


class Looks:
    """Connections that receive, and what a decision does with them."""

    def __init__(self, **addresses: str) -> None:
        self.decision = HoldDecision()
        self.large_count = self.read_bytes = 0
        self.now = 0.0
        self._addresses = {int(name[1:]): address for name, address in addresses.items()}
        self._received = dict.fromkeys(self._addresses, 0)

    def look(self, excess: int, received: dict[int, int], **reading: Reading) -> Windows:
        """Look once more, after `received` bytes by connection have arrived; return the windows that change."""
        self.now += PAUSE_S
        for cookie, size in received.items():
            self._received[cookie] += size
        connections = [Connection(n, n, address, self._received[n]) for n, address in self._addresses.items()]
        progress = {
            A: Progress(reading.get("a", Reading.IDLE), self.large_count, self.read_bytes),
            B: Progress(reading.get("b", Reading.IDLE)),
        }
        return self.decision.decide(connections, excess, progress, self.now)

    def end(self, cookie: int) -> None:
        del self._addresses[cookie]


def test_nobody_is_held_while_there_is_memory() -> None:
    assert Looks(c1=A, c2=A).look(-1, {1: 50 * MIB, 2: MIB}) == {}


def test_who_sends_much_is_held_and_who_sends_little_is_not() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: LIGHT_BYTES - 1}, a=Reading.BUSY) == {1: Window.HELD}


def test_the_more_memory_is_missing_the_less_a_sender_may_send() -> None:
    looks = Looks(c1=A, c2=A, c3=A)
    sent = {1: LIGHT_BYTES // 2, 2: LITTLE_BYTES, 3: LITTLE_BYTES - 1}
    assert looks.look(0, sent, a=Reading.BUSY) == {}
    assert looks.look(STRICT_BYTES // 2, sent, a=Reading.BUSY) == {1: Window.HELD}
    assert looks.look(2 * STRICT_BYTES, sent, a=Reading.BUSY) == {2: Window.HELD}


def test_while_nothing_is_read_everybody_who_sends_is_held() -> None:
    looks = Looks(c1=A, c2=A, c3=B)
    looks.look(-1, {1: 2_000, 2: 2_000, 3: 2_000})
    looks.look(0, {}, a=Reading.PAUSED, b=Reading.PAUSED)
    found = looks.look(0, {1: 1, 3: 1}, a=Reading.PAUSED, b=Reading.PAUSED)
    assert found == {1: Window.HELD, 3: Window.HELD}


def test_a_connection_that_is_being_made_is_not_held() -> None:
    assert Looks(c1=A).look(0, {1: 500}, a=Reading.PAUSED) == {}


def test_all_are_released_once_there_is_memory_again() -> None:
    looks = Looks(c1=A, c2=A)
    looks.look(0, {1: MIB, 2: MIB}, a=Reading.PAUSED)
    assert looks.look(-RELEASED_BYTES, {}, a=Reading.PAUSED) == {}
    assert looks.look(ENOUGH, {}, a=Reading.PAUSED) == {1: Window.OPEN, 2: Window.OPEN}


def test_many_are_released_one_after_the_other() -> None:
    looks = Looks(**{f"c{number}": A for number in range(1, 101)})
    looks.look(0, dict.fromkeys(range(1, 101), MIB), a=Reading.PAUSED)
    released = [len(looks.look(ENOUGH, {})) for _ in range(40)]
    assert released[0] == 6
    assert sum(released) == 100


def test_turns_go_round_among_those_that_are_held_and_end_once_a_large_message_was_read() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: MIB}, a=Reading.BUSY) == {1: Window.HELD, 2: Window.HELD}
    assert looks.look(0, {}) == {1: Window.NARROW}
    assert looks.look(0, {1: LIGHT_BYTES}) == {}
    looks.large_count += 1
    assert looks.look(0, {2: 2_000}) == {1: Window.HELD, 2: Window.NARROW}
    looks.large_count += 1
    assert looks.look(0, {1: 2_000}) == {2: Window.HELD, 1: Window.NARROW}


def test_nobody_has_a_turn_while_messages_wait_to_be_read_unless_that_never_ends() -> None:
    looks = Looks(c1=A)
    looks.look(0, {1: MIB}, a=Reading.PAUSED)
    looks.look(0, {1: 2_000})  # its turn
    looks.large_count += 1
    looks.look(0, {1: 2_000}, b=Reading.BUSY)
    assert looks.look(0, {1: 2_000}, b=Reading.BUSY) == {}
    looks.now += STARVED_S
    looks.read_bytes += MIB
    assert looks.look(0, {1: 2_000}, b=Reading.BUSY) == {1: Window.NARROW}


def test_while_messages_wait_the_next_turn_begins_once_as_much_was_read_as_the_last_one_brought() -> None:
    looks = Looks(c1=A)
    looks.look(0, {1: MIB}, a=Reading.PAUSED)
    looks.look(0, {})  # its turn
    looks.large_count += 1
    assert looks.look(0, {1: 2 * MIB}, b=Reading.BUSY) == {1: Window.HELD}
    looks.now += STARVED_S
    looks.read_bytes += 2 * MIB - 1
    assert looks.look(0, {1: 2_000}, b=Reading.BUSY) == {}
    looks.read_bytes += 1
    assert looks.look(0, {1: 2_000}, b=Reading.BUSY) == {1: Window.NARROW}


def test_a_turn_goes_on_once_its_socket_is_read_again() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: MIB})[1] is Window.NARROW
    assert looks.look(0, {1: MIB}, a=Reading.PAUSED) == {1: Window.HELD}
    looks.now += 2 * SILENT_S
    assert looks.look(0, {2: 1_000}, a=Reading.PAUSED) == {}
    assert looks.look(0, {}) == {1: Window.NARROW}, "what has arrived of its message is not left"


def test_a_turn_has_a_largest_rate() -> None:
    looks = Looks(c1=A)
    looks.look(0, {1: MIB})
    assert looks.look(0, {1: 2 * MIB}) == {1: Window.HELD}
    assert looks.look(0, {}) == {}
    looks.now += 2 * MIB / TURN_BYTES_PER_S
    assert looks.look(0, {}) == {1: Window.NARROW}


def test_sockets_that_are_not_read_do_not_hold_up_the_turns_at_others() -> None:
    looks = Looks(c1=A, c2=B)
    assert looks.look(0, {1: MIB, 2: MIB}, a=Reading.PAUSED) == {1: Window.HELD, 2: Window.NARROW}


def test_nobody_has_a_turn_at_a_socket_that_is_not_read_or_may_drop_messages() -> None:
    for reading in (Reading.PAUSED, Reading.TURNLESS, Reading.LOSSY):
        looks = Looks(c1=A)
        looks.look(0, {1: MIB}, a=reading)
        looks.now += 10 * STARVED_S
        assert looks.look(0, {1: 2_000}, a=reading) == {}


def test_the_turn_of_a_sender_that_pauses_passes_on_and_it_has_another_once_it_sends() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: MIB}) == {1: Window.NARROW, 2: Window.HELD}
    looks.now += SILENT_S
    assert looks.look(0, {1: LIGHT_BYTES}) == {}
    looks.now += SILENT_S
    assert looks.look(0, {}) == {1: Window.HELD, 2: Window.NARROW}
    looks.now += SILENT_S / 2
    assert looks.look(0, {2: LIGHT_BYTES}) == {}
    looks.now += SILENT_S
    assert looks.look(0, {}) == {2: Window.HELD}, "the first has not sent anything since"
    assert looks.look(0, {1: 100}) == {1: Window.NARROW}


def test_who_sends_little_in_its_turn_is_released() -> None:
    looks = Looks(c1=A)
    assert looks.look(0, {1: MIB}) == {1: Window.NARROW}
    looks.now += SILENT_S
    assert looks.look(0, {}) == {1: Window.OPEN}


def test_a_late_look_does_not_make_a_light_sender_a_heavy_one() -> None:
    looks = Looks(c1=A)
    looks.look(-1, {})
    looks.now += 10 * LOOK_S
    assert looks.look(STRICT_BYTES, {1: 9 * LITTLE_BYTES}, a=Reading.BUSY) == {}
    assert looks.look(STRICT_BYTES, {1: LITTLE_BYTES}, a=Reading.BUSY) == {1: Window.HELD}


def test_the_newest_that_send_much_are_ended_once_holding_is_not_enough() -> None:
    looks = Looks(c1=A, c2=A, c3=A)
    looks.look(0, {1: MIB, 2: MIB, 3: 2_000}, a=Reading.PAUSED)
    assert looks.look(END_BYTES - 1, {}, a=Reading.PAUSED) == {1: Window.SHUT, 2: Window.SHUT}
    assert looks.look(END_BYTES, {}, a=Reading.PAUSED) == {2: Window.ENDED, 3: Window.SHUT}
    looks.end(2)
    assert looks.look(END_BYTES, {}, a=Reading.PAUSED) == {1: Window.ENDED}


def test_where_messages_may_be_dropped_senders_are_ended_sooner() -> None:
    looks = Looks(c1=A, c2=B)
    looks.look(0, {1: MIB, 2: MIB}, b=Reading.LOSSY)
    assert Window.ENDED not in looks.look(LOSSY_END_BYTES - 1, {}, b=Reading.LOSSY).values()
    assert looks.look(LOSSY_END_BYTES, {}, b=Reading.LOSSY) == {2: Window.ENDED}
    looks.end(2)
    assert looks.look(END_BYTES - 1, {}, b=Reading.LOSSY) == {}


def test_where_messages_may_be_dropped_those_are_ended_too_that_send_much_little_by_little() -> None:
    looks = Looks(c1=B, c2=B)
    for _ in range(20):
        looks.look(0, {1: LITTLE_BYTES, 2: 100}, b=Reading.LOSSY)
    looks.look(STRICT_BYTES, {1: LITTLE_BYTES, 2: 100}, b=Reading.LOSSY)
    assert looks.look(LOSSY_END_BYTES, {}, b=Reading.LOSSY) == {1: Window.ENDED}


def test_a_turn_ends_with_its_connection() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: MIB})[1] is Window.NARROW
    looks.end(1)
    assert looks.look(0, {}) == {2: Window.NARROW}


def test_those_that_are_not_read_for_long_are_shut_with_a_moment_now_and_then() -> None:
    looks = Looks(c1=A)
    looks.look(0, {1: MIB}, a=Reading.PAUSED)
    assert looks.look(SHUT_BYTES, {1: 2_000}, a=Reading.PAUSED) == {1: Window.SHUT}
    assert looks.look(SHUT_BYTES, {}, a=Reading.PAUSED) == {}
    looks.now += SHUT_S
    assert looks.look(SHUT_BYTES, {}, a=Reading.PAUSED) == {1: Window.HELD}
    assert looks.look(SHUT_BYTES, {}, a=Reading.PAUSED) == {}, "TCP may take long to repeat what was dropped"
    assert looks.look(SHUT_BYTES, {1: 1_000}, a=Reading.PAUSED) == {1: Window.SHUT}
    assert looks.look(SHUT_BYTES, {}) == {1: Window.NARROW}, "it is read again"


def test_light_ones_that_are_not_read_are_shut_only_once_holding_is_not_enough() -> None:
    looks = Looks(c1=A, c2=A)
    assert looks.look(0, {1: MIB, 2: 2_000}, a=Reading.PAUSED) == {1: Window.HELD, 2: Window.HELD}
    assert looks.look(END_BYTES - 1, {2: 2_000}, a=Reading.PAUSED) == {1: Window.SHUT}
    assert looks.look(END_BYTES, {2: 2_000}, a=Reading.PAUSED) == {1: Window.ENDED, 2: Window.SHUT}
    assert looks.look(END_BYTES - RELEASED_BYTES - 1, {}, a=Reading.PAUSED) == {2: Window.HELD}


def test_nobody_can_connect_while_holding_is_not_enough() -> None:
    looks = Looks(c1=A)
    refused = []
    for excess in (
        REFUSE_BYTES - 1,
        REFUSE_BYTES,
        REFUSE_BYTES - RELEASED_BYTES,
        REFUSE_BYTES - RELEASED_BYTES - 1,
        REFUSE_BYTES - 1,
    ):
        looks.look(excess, {})
        refused.append(looks.decision.refuses_newcomers)
    assert refused == [False, True, True, False, False]


def test_a_turn_is_long_enough_for_the_largest_message() -> None:
    assert TURN_BYTES == LARGEST_BYTES
