"""Channels and the hub: viewers of a feed share its reads, and get each change once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from aggregates.web.exceptions import UnavailableError
from aggregates.web.live.feed import StreamMessage
from aggregates.web.live.feed_channel import KEPT_MESSAGES, LEAST_KEPT_BYTES, SendPacing
from aggregates.web.live.hub import Hub, Viewer
from aggregates.web.live.state_budget import CHANNEL_BYTES, StateBudget
from tests.support.waiting import eventually

FAST = SendPacing(least_pause_s=0.01, poll_s=0.05, reread_s=60, linger_s=0.2)


class NumberFeed:
    """A feed of one number, which tests change."""

    def __init__(self, name: str = "n") -> None:
        self.name, self.value, self.mark, self.reads = name, 0, 0, 0
        self.error: Exception | None = None

    def concerns(self, notice: Any) -> bool:
        return bool(notice.get("name") == self.name)

    def stamp(self) -> Any:
        return self.mark

    def read(self) -> Any:
        self.reads += 1
        if self.error:
            raise self.error
        return self.value

    def whole(self, state: Any) -> StreamMessage:
        return StreamMessage("whole", json.dumps(state).encode())

    def change(self, before: Any, after: Any) -> StreamMessage | None:
        return None if before == after else StreamMessage("change", json.dumps([before, after]).encode())


class SizedState(str):
    """A state that says how many bytes it has."""

    @property
    def size_bytes(self) -> int:
        return len(self)


class TextFeed(NumberFeed):
    """A feed of a text."""

    value: Any

    def read(self) -> Any:
        return SizedState(super().read())


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub(FAST)
    yield made
    made.stop()


def next_message(viewer: Viewer) -> tuple[str, Any, str]:
    """Return kind, data and id of the next message."""
    _, event_id, message = eventually(lambda: next(viewer.wait(0.1), None), what="a message")
    return message.kind, json.loads(message.data), event_id


def test_a_viewer_gets_the_state_and_then_each_change(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        assert next_message(viewer)[:2] == ("whole", 0)
        feed.value = 1
        hub.handle_notice({"name": "n"})
        assert next_message(viewer)[:2] == ("change", [0, 1])


def test_notices_about_other_aggregates_cause_no_read(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        next_message(viewer)
        for _ in range(20):
            hub.handle_notice({"name": "other"})
        assert list(viewer.wait(0.1)) == []
        assert feed.reads == 1


def test_many_viewers_of_one_feed_cost_one_read_per_update(hub: Hub) -> None:
    feed = NumberFeed()
    viewers = [hub.watch({"": feed}) for _ in range(100)]
    assert {next_message(viewer)[:2] == ("whole", 0) for viewer in viewers} == {True}
    assert feed.reads == 1
    for value in (1, 2, 3):
        feed.value = value
        hub.handle_notice({"name": "n"})
        assert {json.dumps(next_message(viewer)[:2]) for viewer in viewers} == {
            json.dumps(("change", [value - 1, value]))
        }
    assert feed.reads == 4
    for viewer in viewers:
        viewer.close()


def test_polling_the_stamp_makes_up_for_a_lost_notice(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        next_message(viewer)
        feed.value, feed.mark = 5, 1
        assert next_message(viewer)[:2] == ("change", [0, 5])


def test_a_viewer_that_reconnects_gets_only_missing_messages(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        last = next_message(viewer)[2]
        with hub.watch({"": feed}) as other:
            next_message(other)
            viewer.close()
            for value in (1, 2):
                feed.value = value
                hub.handle_notice({"name": "n"})
                next_message(other)
            with hub.watch({"": feed}, last) as again:
                assert [message.kind for _, _, message in again.wait(1)] == ["change", "change"]
            with hub.watch({"": feed}, "nonsense.1,.,x.y") as stranger:
                assert next_message(stranger)[:2] == ("whole", 2)


def test_a_viewer_that_is_too_far_behind_gets_the_whole_state(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer, hub.watch({"": feed}) as other:
        last = next_message(viewer)[2]
        next_message(other)
        for value in range(1, KEPT_MESSAGES + 5):
            feed.value = value
            hub.handle_notice({"name": "n"})
            next_message(other)
        with hub.watch({"": feed}, last) as again:
            assert next_message(again)[:2] == ("whole", KEPT_MESSAGES + 4)


def test_the_messages_that_are_kept_have_no_more_bytes_than_the_state(hub: Hub) -> None:
    feed = TextFeed()
    feed.value = "x" * LEAST_KEPT_BYTES
    with hub.watch({"": feed}) as viewer, hub.watch({"": feed}) as other:
        last = next_message(viewer)[2]
        next_message(other)
        feed.value = "y" * LEAST_KEPT_BYTES  # the change has both, more bytes than the state
        hub.handle_notice({"name": "n"})
        assert next_message(other)[0] == "whole"
        with hub.watch({"": feed}, last) as again:
            assert next_message(again)[0] == "whole"


def test_a_state_without_room_is_a_problem_until_there_is_room() -> None:
    hub = Hub(FAST, StateBudget(3 * CHANNEL_BYTES, 0))
    one, two = TextFeed("one"), TextFeed("two")
    one.value, two.value = "x" * (CHANNEL_BYTES // 2), "y" * CHANNEL_BYTES
    with ExitStack() as held:
        viewer = held.enter_context(hub.watch({"": one}))
        assert next_message(viewer)[0] == "whole"
        with hub.watch({"": two}) as other:
            kind, data, _ = next_message(other)
            assert (kind, data["error"]["code"]) == ("problem", "unavailable")
            held.close()
            eventually(lambda: len(hub.channels()) == 1)
            two.mark = 1
            eventually(lambda: any(message.kind == "whole" for _, _, message in other.wait(0.1)))


def test_newcomers_are_refused_while_there_is_no_room_for_a_channel() -> None:
    hub = Hub(FAST, StateBudget(2 * CHANNEL_BYTES, 0))
    one, two = NumberFeed("one"), NumberFeed("two")
    with hub.watch({"": one}), hub.watch({"": two}):
        hub.check_room([one, two])  # they are open already
        with pytest.raises(UnavailableError):
            hub.check_room([NumberFeed("three")])
        with pytest.raises(UnavailableError):
            hub.watch({"a": one, "b": NumberFeed("three")})
        assert [channel.viewers for channel in hub.channels()] == [1, 1]
    eventually(lambda: not hub.channels())
    hub.check_room([NumberFeed("three")])


def test_only_the_last_message_of_a_batch_has_an_id(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer, hub.watch({"": feed}) as other:
        last = next_message(viewer)[2]
        next_message(other)
        for value in (1, 2, 3):
            feed.value = value
            hub.handle_notice({"name": "n"})
            next_message(other)
        with hub.watch({"": feed}, last) as again:
            ids = [event_id for _, event_id, _ in again.wait(1)]
    assert ids[:-1] == ["", ""] and ids[-1]


def test_an_error_is_sent_and_the_channel_recovers(hub: Hub) -> None:
    feed = NumberFeed()
    feed.error = UnavailableError("MongoDB does not answer")
    with hub.watch({"": feed}) as viewer:
        kind, data, _ = next_message(viewer)
        assert (kind, data["error"]["code"]) == ("problem", "unavailable")
        feed.error = None
        hub.handle_notice({"name": "n"})
        eventually(lambda: any(message.kind == "whole" for _, _, message in viewer.wait(0.1)))


def test_the_end_of_an_error_is_sent_although_nothing_changed(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"": feed}) as viewer:
        assert next_message(viewer)[0] == "whole"
        feed.error = UnavailableError("MongoDB does not answer")
        hub.handle_notice({"name": "n"})
        assert next_message(viewer)[0] == "problem"
        feed.error = None
        hub.handle_notice({"name": "n"})
        seen: list[str] = []
        eventually(lambda: seen.extend(m.kind for _, _, m in viewer.wait(0.1)) or "whole" in seen)
        assert "change" not in seen


def test_a_channel_without_viewers_ends_with_its_thread(hub: Hub) -> None:
    before = threading.active_count()
    for number in range(10):
        with hub.watch({"": NumberFeed(f"n{number}")}) as viewer:
            next_message(viewer)
    eventually(lambda: not hub.channels())
    eventually(lambda: threading.active_count() <= before)
    assert hub.reads >= 10


def test_several_feeds_share_one_stream(hub: Hub) -> None:
    one, two = NumberFeed("one"), NumberFeed("two")
    with hub.watch({"a": one, "b": two}) as viewer:
        seen: dict[str, Any] = {}
        eventually(lambda: seen.update({name: m.kind for name, _, m in viewer.wait(0.1)}) or len(seen) == 2)
        two.value = 7
        hub.handle_notice({"name": "two"})
        found: list[Any] = []
        eventually(lambda: found.extend((n, m.kind) for n, _, m in viewer.wait(0.1)) or found)
        assert found == [("b", "change")]


def test_a_stopped_hub_ends_its_streams(hub: Hub) -> None:
    with hub.watch({"": NumberFeed()}) as viewer:
        next_message(viewer)
        hub.stop()
        with pytest.raises(EOFError):
            list(viewer.wait(5))


def test_a_feed_that_fails_on_a_notice_keeps_it_from_no_other(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(NumberFeed):
        def concerns(self, notice: Any) -> bool:
            return notice["name"] in {self.name}  # as with a list in place of the name

    fragile, sound = Fragile("a"), NumberFeed("b")
    with hub.watch({"a": fragile}), hub.watch({"b": sound}) as viewer:
        next_message(viewer)
        sound.value = 1
        hub.handle_notice({"name": ["x"]})
        hub.handle_notice({"name": "b"})
        assert next_message(viewer)[:2] == ("change", [0, 1])


def test_a_state_of_which_no_message_can_be_made_is_reported_and_the_channel_goes_on(hub: Hub) -> None:
    feed = NumberFeed()
    with hub.watch({"n": feed}) as viewer:
        next_message(viewer)
        feed.value, feed.mark = object(), 1  # type: ignore[assignment]
        assert next_message(viewer)[0] == "problem"
        feed.value, feed.mark = 7, 2
        eventually(lambda: next_message(viewer)[:2] == ("whole", 7))
