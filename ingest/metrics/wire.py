"""Pack and unpack the messages between publishers, broker and backends, in the format of 2013.

It is `level|type|name|value|epoch seconds|source`. In every field `%`, `|` and line breaks are percent-encoded, nothing
else. The value of a message of type Batch is a JSON object with the measurements of an interval, which can be merged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import value_check
from .exceptions import MetricError, WireError
from .identity import LEAST_RATE, MOST_TAGS, NOT_SPECIFIED, Identity, number, text
from .metric_type import SET, TYPE_BY_NAME, TYPES

BATCH = "Batch"
PUBLISHERS, BACKENDS = "metrics.publishers", "metrics.backends"  # keys of the broker's addresses
FIELDS = 6
MOST_BYTES = 2**20
_ENCODED = {"%": "%25", "|": "%7C", "\n": "%0A", "\r": "%0D"}
_ENCODE = str.maketrans(_ENCODED)
_DECODED = re.compile("%(25|7[Cc]|0[AaDd])")


@dataclass(frozen=True, slots=True)
class Measurement:
    level: str
    type: str  # one of TYPES
    name: str
    value: float | int | str  # text only for type Set
    epoch: int  # seconds since 1970
    source: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The measurements of one metric by one publisher in one interval."""

    identity: Identity
    epoch: int  # start of the interval, seconds since 1970
    count: int  # measurements
    sum: float | int
    publisher: str = ""  # its id; "" if unknown
    sequence: int = 0  # number among the publisher's batches of this level, from 1; 0 if the publisher is unknown
    before: int = 0  # measurements in the publisher's earlier batches of this level
    min: float | int | None = None  # None for counters and sets, like max and last
    max: float | int | None = None
    last: float | int | None = None
    sketch: Mapping[str, Any] | None = None  # of LogSketch, or of DistinctSketch for type Set; None for counters


def encode(field: str) -> str:
    """Return the field as it is written in a message."""
    return field.translate(_ENCODE)


def decode(field: str) -> str:
    """Invert `encode`; other uses of `%` stay as they are."""
    return _DECODED.sub(lambda found: chr(int(found[1], 16)), field) if "%" in field else field


def topic(level: str) -> bytes:
    """Return the prefix of every message of exactly this level."""
    return f"{encode(level)}|".encode()


def pack_measurement(measurement: Measurement) -> str:
    fields = (
        measurement.level,
        measurement.type,
        measurement.name,
        _plain(measurement.value),
        str(measurement.epoch),
        measurement.source,
    )
    return "|".join(map(encode, fields))


def _plain(value: float | str) -> str:
    """Return a value as text, numbers without an exponent: a reader of 2013 may know none."""
    found = str(value)
    if not isinstance(value, float) or "e" not in found:
        return found
    plain = format(Decimal(found), "f")
    return plain if "." in plain else f"{plain}.0"  # without it, it would be read as another, whole number


def pack_batch(batch: Batch) -> bytes:
    metric = batch.identity
    value: dict[str, Any] = {"type": metric.type, "count": batch.count, "sum": batch.sum}
    value |= {"publisher": batch.publisher, "sequence": batch.sequence, "before": batch.before}
    if batch.min is not None:
        value |= {"min": batch.min, "max": batch.max, "last": batch.last}
    if batch.sketch is not None:
        value["sketch"] = batch.sketch
    if metric.tags:
        value["tags"] = dict(metric.tags)
    if metric.outcome:
        value["outcome"] = metric.outcome
    if metric.rate != 1:
        value["rate"] = metric.rate
    packed = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return "|".join(map(encode, (metric.level, BATCH, metric.name, packed, str(batch.epoch), metric.source))).encode()


def unpack(message: bytes | str) -> Measurement | Batch:
    """Parse a message of either kind. Raise `WireError` that says what is wrong with it."""
    if len(message) > MOST_BYTES:
        raise WireError(f"a message of {len(message)} bytes: at most {MOST_BYTES} are read")
    try:
        found = message.decode() if isinstance(message, bytes) else message
    except UnicodeDecodeError as error:
        raise WireError(f"{message[:80]!r} is not UTF-8: {error.reason}") from None
    fields = found.split("|")
    if len(fields) != FIELDS:
        raise WireError(f"{found[:80]!r} has {len(fields)} fields; expected level|type|name|value|epoch|source")
    level, type_, name, value, epoch, source = map(decode, fields)
    try:
        level, name, source = text("level", level), text("name", name), text("source", source or NOT_SPECIFIED)
        when = _epoch(epoch)
        if type_ == BATCH:
            return _batch(level, name, source, when, json.loads(value))
        if (known := TYPE_BY_NAME.get(type_.lower())) is None:
            raise WireError(f"type {type_!r} is unknown: use {', '.join(TYPES)}, {BATCH}")
        return Measurement(level, known, name, value if known == SET else number("value", value), when, source)
    except MetricError as error:
        raise WireError(f"{found[:80]!r}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WireError(f"{found[:80]!r}: {type(error).__name__} {error}") from None


def _epoch(found: str) -> int:
    seconds = number("epoch", found)
    if not 0 <= seconds < 253_402_300_800:  # year 10000
        raise WireError(f"{found!r} is not a number of seconds since 1970")
    return int(seconds)


def _batch(level: str, name: str, source: str, epoch: int, value: dict[str, Any]) -> Batch:
    type_, rate, outcome = value["type"], value.get("rate", 1.0), value.get("outcome", "")
    if type_ not in TYPES or not LEAST_RATE <= rate <= 1 or outcome not in {"", "error"}:
        raise WireError(f"type {type_!r}, rate {rate!r} or outcome {outcome!r} is not allowed")
    if len(found := value.get("tags", {})) > MOST_TAGS:
        raise WireError(f"{len(found)} tags: at most {MOST_TAGS} are read")
    tags = tuple(sorted((text("tag", key), text("tag", tag)) for key, tag in found.items()))
    count = value_check.checked_count("count", value["count"], 1)
    publisher = text("publisher", value["publisher"]) if value.get("publisher") else ""
    lowest, highest, last = (
        None if value.get(field) is None else number(field, value[field]) for field in ("min", "max", "last")
    )
    value_check.check_bounds(type_, (lowest, highest, last))
    return Batch(
        Identity(level, type_, name, source, tags, float(rate), outcome),
        epoch,
        count,
        number("sum", value["sum"]),
        publisher,
        value_check.checked_count("sequence", value.get("sequence", 0), 1 if publisher else 0),
        value_check.checked_count("before", value.get("before", 0)),
        lowest,
        highest,
        last,
        value_check.checked_sketch(type_, count, value.get("sketch")),
    )
