"""Messages are unpacked as they were packed, in the format of 2013 where it suffices."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.metrics.exceptions import WireError
from ingest.metrics.identity import Identity
from ingest.metrics.metric_type import TYPES
from ingest.metrics.wire import Batch, Measurement, pack_batch, pack_measurement, topic, unpack

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
numbers = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)


@example("a", "Gauge", "b", 4.228845666938986e16, 5, "c")
@given(texts, st.sampled_from(["Timer", "Counter", "Gauge"]), texts, numbers, st.integers(0, 2**33), texts)
def test_a_single_measurement_is_unpacked_as_it_was_packed(
    level: str, kind: str, name: str, value: float, epoch: int, source: str
) -> None:
    measurement = Measurement(level, kind, name, value, epoch, source)
    packed = pack_measurement(measurement)
    assert unpack(packed) == unpack(packed.encode()) == measurement
    assert packed.encode().startswith(topic(level))


@given(st.data())
def test_a_batch_is_unpacked_as_it_was_packed(data: st.DataObject) -> None:
    tags = data.draw(st.dictionaries(texts, texts, max_size=3))
    identity = Identity(
        data.draw(texts), data.draw(st.sampled_from(TYPES)), data.draw(texts), data.draw(texts),
        tuple(sorted(tags.items())), data.draw(st.floats(0.01, 1)), data.draw(st.sampled_from(["", "error"])),
    )  # fmt: skip
    count, sketch = data.draw(st.integers(5, 2**62)), None
    bounds: tuple[float | None, ...] = (None, None, None)
    if identity.type == "Set":
        sketch = {"hashes": [0, 5, 2**63 - 1]}
    elif identity.type != "Counter":
        bounds, sketch = (1.5, 2.5, 2), {"positive": [1, 1, 35488, count - 4], "negative": [-37220, 2], "zero": 1}
    batch = Batch(identity, 1_300_000_000, count, data.draw(numbers), "p1", 7, 100, *bounds, sketch)
    assert unpack(pack_batch(batch)) == batch


def test_the_format_is_that_of_2013_and_only_three_characters_are_encoded() -> None:
    assert pack_measurement(Measurement("info", "Gauge", "a b/ü", 0, 5, "x")) == "info|Gauge|a b/ü|0|5|x"
    for value, plain in ((4e-5, "0.00004"), (-1.25e-9, "-0.00000000125"), (1e22, "1" + "0" * 22 + ".0"), (12, "12")):
        assert pack_measurement(Measurement("info", "Gauge", "a", value, 5, "x")) == f"info|Gauge|a|{plain}|5|x"
    assert pack_measurement(Measurement("info", "Gauge", "50%|\n", 1.5, 5, "x")) == "info|Gauge|50%25%7C%0A|1.5|5|x"
    assert unpack(b"info|counter|deaths|5|1300000000|deathstar") == Measurement(
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
        b"info|Batch|x|" + b"[" * 200_000 + b"|1|s", b"info|Gauge|a\0b|1|5|x",
    ],
)  # fmt: skip
def test_a_message_that_is_not_a_measurement_is_refused_with_the_reason(message: bytes) -> None:
    with pytest.raises(WireError):
        unpack(message)


TIMER = {"type": "Timer", "count": 3, "sum": 6, "min": 1, "max": 3, "last": 2}
COUNTER = {"type": "Counter", "count": 1, "sum": 1}
SET = {"type": "Set", "count": 2, "sum": 2, "sketch": {"hashes": [1, 2]}}


def batch_message(value: dict[str, Any]) -> bytes:
    """Return a message as another program could write it."""
    return f"info|Batch|a|{json.dumps(value)}|5|x".encode()


@pytest.mark.parametrize(
    "wrong",
    [
        TIMER | {"min": None}, {key: value for key, value in TIMER.items() if key != "max"}, TIMER | {"count": 0},
        TIMER | {"last": 4}, TIMER | {"min": 5}, TIMER | {"rate": 1e-320}, TIMER | {"count": 2**62 + 1},
        TIMER | {"sketch": {"positive": [1, 2]}}, TIMER | {"sketch": {"positive": [1, -1, 2, 4]}},
        TIMER | {"sketch": {"positive": [1, 8], "zero": -5}}, TIMER | {"sketch": {"positive": [100_000, 3]}},
        TIMER | {"sketch": {"negative": [-100_000, 3]}}, TIMER | {"sketch": {"positive": [10**30, 3]}},
        TIMER | {"sketch": {"positive": [1, 2, 1, 1]}}, TIMER | {"sketch": {"hashes": [1, 2, 3]}},
        TIMER | {"sketch": {"positive": [0.5, 3]}}, TIMER | {"sketch": {"positive": "ab"}}, TIMER | {"sketch": [1]},
        TIMER | {"count": 3000, "sketch": {"positive": [n for bucket in range(3000) for n in (bucket, 1)]}},
        TIMER | {"tags": {f"t{n}": "x" for n in range(65)}}, TIMER | {"tags": {"a\0b": "x"}},
        TIMER | {"publisher": "p", "sequence": 0}, TIMER | {"before": 2**63},
        COUNTER | {"min": 1, "max": 1, "last": 1}, COUNTER | {"sketch": {}},
        SET | {"sketch": None}, SET | {"sketch": {"hashes": []}}, SET | {"sketch": {"hashes": [2**70]}},
        SET | {"sketch": {"hashes": [-1]}}, SET | {"count": 1}, SET | {"sketch": {"hashes": [1], "zero": 1}},
    ],
)  # fmt: skip
def test_an_impossible_batch_is_refused_before_it_reaches_an_aggregate(wrong: dict[str, Any]) -> None:
    for right in (TIMER, TIMER | {"sketch": {}}, TIMER | {"sketch": {"positive": [1, 3]}}, COUNTER, SET):
        unpack(batch_message(right))
    with pytest.raises(WireError):
        unpack(batch_message(wrong))


@pytest.mark.parametrize("text", ["1_000", "\u0663", "\uff11", " 5", "5 ", "nan", "inf", "0x1F", "", "-1", "1e300"])
def test_values_and_times_that_are_no_plain_decimals_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(WireError, match=re.escape(repr(text))):
        unpack(f"info|Gauge|n|1|{text}|x")
    if text not in {"-1", "1e300"}:
        with pytest.raises(WireError, match=re.escape(repr(text))):
            unpack(f"info|Gauge|n|{text}|5|x")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"info|Batch|a|{t}|5|x".encode()))
def test_unpacking_any_message_raises_only_wire_errors(message: bytes) -> None:
    with contextlib.suppress(WireError):
        unpack(message)
