"""Messages: what goes in comes out, as in 2013 where 2013 could say it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.metrics.exceptions import WireError
from ingest.metrics.naming import TYPES, Identity
from ingest.metrics.wire import Batch, Single, pack_batch, pack_single, topic, unpack

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
numbers = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)


@given(texts, st.sampled_from(["Timer", "Counter", "Gauge"]), texts, numbers, st.integers(0, 2**33), texts)
def test_a_single_measurement_survives_the_wire(
    level: str, kind: str, name: str, value: float, epoch: int, source: str
) -> None:
    single = Single(level, kind, name, value, epoch, source)
    packed = pack_single(single)
    assert unpack(packed) == unpack(packed.encode()) == single
    assert packed.encode().startswith(topic(level))


@given(st.data())
def test_a_batch_survives_the_wire(data: st.DataObject) -> None:
    tags = data.draw(st.dictionaries(texts, texts, max_size=3))
    identity = Identity(
        data.draw(texts), data.draw(st.sampled_from(TYPES)), data.draw(texts), data.draw(texts),
        tuple(sorted(tags.items())), data.draw(st.floats(0.01, 1)), data.draw(st.sampled_from(["", "error"])),
    )  # fmt: skip
    batch = Batch(
        identity, 1_300_000_000, data.draw(st.integers(0, 2**62)), data.draw(numbers), "p1", 7, 100,
        1.5, 2.5, 2, {"positive": [1, 2, 3, 4], "zero": 3},
    )  # fmt: skip
    assert unpack(pack_batch(batch)) == batch


def test_the_form_is_that_of_2013_and_only_three_characters_are_encoded() -> None:
    assert pack_single(Single("info", "Gauge", "a b/ü", 0, 5, "x")) == "info|Gauge|a b/ü|0|5|x"
    assert pack_single(Single("info", "Gauge", "50%|\n", 1.5, 5, "x")) == "info|Gauge|50%25%7C%0A|1.5|5|x"
    assert unpack(b"info|counter|deaths|5|1300000000|deathstar") == Single(
        "info", "Counter", "deaths", 5, 1300000000, "deathstar"
    )


@pytest.mark.parametrize(
    "message",
    [
        b"", b"info|Gauge|a|1|5", b"info|Gauge|a|1|5|x|y", b"info|Shape|a|1|5|x", b"info|Gauge|a|one|5|x",
        b"info|Gauge|a|nan|5|x", b"info|Gauge||1|5|x", b"info|Gauge|a|1|then|x", b"info|Gauge|a|1|-5|x",
        b"\xff|Gauge|a|1|5|x", b"info|Batch|a|{}|5|x", b"info|Batch|a|[1]|5|x", b"info|Batch|a|null|5|x",
        b'info|Batch|a|{"type":"Timer","count":-1,"sum":1}|5|x', b'info|Batch|a|{"type":"Timer","count":1}|5|x',
        b'info|Batch|a|{"type":"Timer","count":1,"sum":1,"sketch":{"positive":[1]}}|5|x',
        b'info|Batch|a|{"type":"Timer","count":1,"sum":1,"tags":{"a":1}}|5|x',
        b'info|Batch|a|{"type":"Timer","count":1,"sum":1,"rate":0}|5|x', b"x" * 2_000_000,
    ],
)  # fmt: skip
def test_what_is_no_measurement_is_refused_by_name(message: bytes) -> None:
    with pytest.raises(WireError):
        unpack(message)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"info|Batch|a|{t}|5|x".encode()))
def test_no_message_raises_anything_else(message: bytes) -> None:
    with contextlib.suppress(WireError):
        unpack(message)
