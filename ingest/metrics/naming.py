"""What a measurement may be called: the checks made where a decorator is applied, and the identity of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .exceptions import MetricError

TIMER, COUNTER, GAUGE, SET, HISTOGRAM = "Timer", "Counter", "Gauge", "Set", "Histogram"
TYPES = (TIMER, COUNTER, GAUGE, SET, HISTOGRAM)
BY_NAME = {type_.lower(): type_ for type_ in TYPES}  # 2013 wrote timer, counter, gauge
TEXT_LENGTH = 256
MOST_TAGS = 64
LEAST_RATE = 1e-9  # what one measurement then stands for can still be counted
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
    rate: float = 1.0  # share of calls that are measured, LEAST_RATE to 1
    outcome: str = ""  # "error" when the measured code raised, else ""

    def failed(self) -> Identity:
        """The identity under which the same code is measured when it raises."""
        return replace(self, outcome="error")


def identity(
    type_: str, level: Any, name: Any, source: Any, tags: Mapping[str, Any] | None = None, rate: Any = 1.0
) -> Identity:
    """The checked identity. Raises `MetricError` that names argument, value and what is allowed."""
    kind = BY_NAME.get(type_.lower()) if isinstance(type_, str) else None
    if kind is None:
        raise MetricError(f"mtype: {shown(type_)} is not allowed: there are {', '.join(TYPES)}")
    return Identity(text("level", level), kind, text("name", name), text("source", source), _tags(tags), _rate(rate))


def text(argument: str, value: Any) -> str:
    """`value` if it can be a level, name or source."""
    if not isinstance(value, str) or not 1 <= len(value) <= TEXT_LENGTH:
        raise MetricError(f"{argument}: {shown(value)} is not allowed: a text of 1 to {TEXT_LENGTH} characters")
    if "\0" in value:
        raise MetricError(f"{argument}: {shown(value)} is not allowed: it holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MetricError(f"{argument}: {shown(value)} is not allowed: it holds half a character") from None
    return value


def number(argument: str, value: Any) -> float | int:
    """`value` as a number that can be summed: an int or a finite float; text of 2013 such as "5" is read."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        except ValueError:
            raise MetricError(f"{argument}: {shown(value)} is no number") from None
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    try:
        found = float(value)
    except Exception:  # noqa: BLE001 - whatever a foreign __float__ raises
        raise MetricError(f"{argument}: {shown(value)} is no number") from None
    if not math.isfinite(found):
        raise MetricError(f"{argument}: {shown(value)} is not allowed: a finite number")
    return found


def _tags(tags: Mapping[str, Any] | None) -> Tags:
    if tags is None:
        return ()
    if not isinstance(tags, Mapping):
        raise MetricError(f"tags: {shown(tags)} is not allowed: a dictionary such as {{'shop': 'berlin'}}")
    if len(tags) > MOST_TAGS:
        raise MetricError(f"tags: {len(tags)} are too many: at most {MOST_TAGS}")
    return tuple(sorted((text("tag", key), text(f"tag {key}", _said(value))) for key, value in tags.items()))


def _said(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - whatever a foreign __str__ raises
        raise MetricError(f"tags: {shown(value)} cannot be made a text ({type(error).__name__})") from None


def shown(value: Any) -> str:
    """How a message shows a value: some cannot even be shown."""
    try:
        return repr(value)[:TEXT_LENGTH]
    except Exception:  # noqa: BLE001 - whatever a foreign __repr__ raises
        return f"a {type(value).__qualname__}"


def _rate(rate: Any) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not LEAST_RATE <= rate <= 1:
        raise MetricError(
            f"rate: {shown(rate)} is not allowed: {LEAST_RATE} to 1, the share of calls that are measured"
        )
    return float(rate)


def qualified(function: Any) -> str:
    """The name that a metric of `function` has when none is given."""
    function = getattr(function, "func", function)  # functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    found = f"{module}.{name}" if module else name
    return found[-TEXT_LENGTH:]
