"""What a measurement may be called: the checks made where a decorator is applied, and the identity of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ingest.metrics.exceptions import MetricError

TIMER, COUNTER, GAUGE, SET, HISTOGRAM = "Timer", "Counter", "Gauge", "Set", "Histogram"
TYPES = (TIMER, COUNTER, GAUGE, SET, HISTOGRAM)
TEXT_LENGTH = 256
NOT_SPECIFIED = "not_specified"  # the source of 2013 when none is given

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two measurements belong to one metric."""

    level: str
    type: str  # one of TYPES
    name: str
    source: str
    tags: Tags = ()
    rate: float = 1.0  # share of calls that are measured, above 0 to 1
    outcome: str = ""  # "error" when the measured code raised, else ""

    def failed(self) -> Identity:
        """The identity under which the same code is measured when it raises."""
        return replace(self, outcome="error")


def identity(
    type_: str, level: Any, name: Any, source: Any, tags: Mapping[str, Any] | None = None, rate: Any = 1.0
) -> Identity:
    """The checked identity. Raises `MetricError` that names argument, value and what is allowed."""
    if type_ not in TYPES:
        raise MetricError(f"mtype: {type_!r} is not allowed: there are {', '.join(TYPES)}")
    return Identity(text("level", level), type_, text("name", name), text("source", source), _tags(tags), _rate(rate))


def text(argument: str, value: Any) -> str:
    """`value` if it can be a level, name or source."""
    if not isinstance(value, str) or not 1 <= len(value) <= TEXT_LENGTH:
        raise MetricError(f"{argument}: {value!r} is not allowed: a text of 1 to {TEXT_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MetricError(f"{argument}: {value!r} is not allowed: it holds half a character") from None
    return value


def number(argument: str, value: Any) -> float | int:
    """`value` as a number that can be summed: an int or a finite float; text of 2013 such as "5" is read."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        except ValueError:
            raise MetricError(f"{argument}: {value!r} is no number") from None
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise MetricError(f"{argument}: {value!r} is no number") from None
    if not math.isfinite(found):
        raise MetricError(f"{argument}: {value!r} is not allowed: a finite number")
    return found


def _tags(tags: Mapping[str, Any] | None) -> Tags:
    if tags is None:
        return ()
    if not isinstance(tags, Mapping):
        raise MetricError(f"tags: {tags!r} is not allowed: a dictionary such as {{'shop': 'berlin'}}")
    return tuple(sorted((text("tag", key), text(f"tag {key}", str(value))) for key, value in tags.items()))


def _rate(rate: Any) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise MetricError(f"rate: {rate!r} is not allowed: above 0 to 1, the share of calls that are measured")
    return float(rate)


def qualified(function: Any) -> str:
    """The name that a metric of `function` has when none is given."""
    function = getattr(function, "func", function)  # functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    found = f"{module}.{name}" if module else name
    return found[-TEXT_LENGTH:]
