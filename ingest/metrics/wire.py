"""Messages between publishers, broker and backends: `level|type|name|value|epoch seconds|source`, as in 2013.

In every field `%`, `|` and line breaks are percent-encoded, nothing else. A message of type Batch has a JSON object as
its value: what was measured in one interval, in numbers that can be merged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import plausible
from .exceptions import MetricError, WireError
from .naming import BY_NAME, LEAST_RATE, MOST_TAGS, NOT_SPECIFIED, TYPES, Identity, number, text

BATCH = "Batch"
PUBLISHERS, BACKENDS = "metrics.publishers", "metrics.backends"  # keys of the broker's addresses
FIELDS = 6
MOST_BYTES = 2**20
_ENCODED = {"%": "%25", "|": "%7C", "\n": "%0A", "\r": "%0D"}
_ENCODE = str.maketrans(_ENCODED)
_DECODED = re.compile("%(25|7[Cc]|0[AaDd])")


@dataclass(frozen=True, slots=True)
class Single:
    """One measurement."""

    level: str
    type: str  # one of TYPES
    name: str
    value: float | int | str  # text only for type Set
    epoch: int
    source: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one publisher measured of one metric in one interval."""

    identity: Identity
    epoch: int  # when the interval began
    count: int  # measurements
    sum: float | int
    publisher: str = ""  # "" when it is not known
    sequence: int = 0  # of the publisher's batches of this level, from 1
    before: int = 0  # measurements in the publisher's earlier batches of this level
    min: float | int | None = None  # None for counters and sets, as are max, last
    max: float | int | None = None
    last: float | int | None = None
    sketch: Mapping[str, Any] | None = None  # of LogSketch, or of DistinctSketch for type Set; None for counters


def encode(field: str) -> str:
    """The field as it stands in a message."""
    return field.translate(_ENCODE)


def decode(field: str) -> str:
    """The inverse; other uses of `%` stay as they are."""
    return _DECODED.sub(lambda found: chr(int(found[1], 16)), field) if "%" in field else field


def topic(level: str) -> bytes:
    """The prefix of every message of exactly this level."""
    return f"{encode(level)}|".encode()


def pack_single(single: Single) -> str:
    """The message of one measurement, as in 2013."""
    fields = (single.level, single.type, single.name, str(single.value), str(single.epoch), single.source)
    return "|".join(map(encode, fields))


def pack_batch(batch: Batch) -> bytes:
    """The message of one interval."""
    who = batch.identity
    value: dict[str, Any] = {"type": who.type, "count": batch.count, "sum": batch.sum}
    value |= {"publisher": batch.publisher, "sequence": batch.sequence, "before": batch.before}
    if batch.min is not None:
        value |= {"min": batch.min, "max": batch.max, "last": batch.last}
    if batch.sketch is not None:
        value["sketch"] = batch.sketch
    if who.tags:
        value["tags"] = dict(who.tags)
    if who.outcome:
        value["outcome"] = who.outcome
    if who.rate != 1:
        value["rate"] = who.rate
    packed = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return "|".join(map(encode, (who.level, BATCH, who.name, packed, str(batch.epoch), who.source))).encode()


def unpack(message: bytes | str) -> Single | Batch:
    """The inverse of both. Raises `WireError` that says what is wrong with the message."""
    if len(message) > MOST_BYTES:
        raise WireError(f"a message of {len(message)} bytes: at most {MOST_BYTES} are read")
    try:
        found = message.decode() if isinstance(message, bytes) else message
    except UnicodeDecodeError as error:
        raise WireError(f"{message[:80]!r} is no UTF-8: {error.reason}") from None
    fields = found.split("|")
    if len(fields) != FIELDS:
        raise WireError(f"{found[:80]!r} has {len(fields)} fields: level|type|name|value|epoch|source are wanted")
    level, type_, name, value, epoch, source = map(decode, fields)
    try:
        level, name, source = text("level", level), text("name", name), text("source", source or NOT_SPECIFIED)
        when = _epoch(epoch)
        if type_ == BATCH:
            return _batch(level, name, source, when, json.loads(value))
        if (known := BY_NAME.get(type_.lower())) is None:
            raise WireError(f"type {type_!r} is not known: there are {', '.join(TYPES)}, {BATCH}")
        return Single(level, known, name, value if known == "Set" else number("value", value), when, source)
    except MetricError as error:
        raise WireError(f"{found[:80]!r}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WireError(f"{found[:80]!r}: {type(error).__name__} {error}") from None


def _epoch(found: str) -> int:
    seconds = float(found)
    if not math.isfinite(seconds) or not 0 <= seconds < 253_402_300_800:  # year 10000
        raise WireError(f"{found!r} is no number of seconds since 1970")
    return int(seconds)


def _batch(level: str, name: str, source: str, epoch: int, value: dict[str, Any]) -> Batch:
    type_, rate, outcome = value["type"], value.get("rate", 1.0), value.get("outcome", "")
    if type_ not in TYPES or not LEAST_RATE <= rate <= 1 or outcome not in {"", "error"}:
        raise WireError(f"type {type_!r}, rate {rate!r} or outcome {outcome!r} is not known")
    if len(found := value.get("tags", {})) > MOST_TAGS:
        raise WireError(f"{len(found)} tags: at most {MOST_TAGS} are read")
    tags = tuple(sorted((text("tag", key), text("tag", tag)) for key, tag in found.items()))
    count = plausible.count("count", value["count"], 1)
    publisher = text("publisher", value["publisher"]) if value.get("publisher") else ""
    lowest, highest, last = (
        None if value.get(field) is None else number(field, value[field]) for field in ("min", "max", "last")
    )
    plausible.bounds(type_, (lowest, highest, last))
    return Batch(
        Identity(level, type_, name, source, tags, float(rate), outcome),
        epoch,
        count,
        number("sum", value["sum"]),
        publisher,
        plausible.count("sequence", value.get("sequence", 0), 1 if publisher else 0),
        plausible.count("before", value.get("before", 0)),
        lowest,
        highest,
        last,
        plausible.sketch(type_, count, value.get("sketch")),
    )
