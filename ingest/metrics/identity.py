"""Identify a metric by level, type, name, source, tags and rate; check these where a decorator is applied."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .exceptions import MetricError
from .metric_type import TYPE_BY_NAME, TYPES

TEXT_LENGTH = 256
MOST_TAGS = 64
LEAST_RATE = 1e-9  # one measurement then counts for a billion calls
NOT_SPECIFIED = "not_specified"  # the source if none is given, as in 2013

# As `ingest.number_text` reads them, which programs that only measure do not have.
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """The properties that measurements of one metric share."""

    level: str
    type: str  # one of TYPES
    name: str
    source: str
    tags: Tags = ()
    rate: float = 1.0  # share of calls that are measured, LEAST_RATE to 1
    outcome: str = ""  # "error" if the measured code raised, else ""

    def failed(self) -> Identity:
        """Return the identity under which the same code is measured if it raises."""
        return replace(self, outcome="error")


def identity(
    type_: str, level: Any, name: Any, source: Any, tags: Mapping[str, Any] | None = None, rate: Any = 1.0
) -> Identity:
    """Return the checked identity. Raise `MetricError`, which names the argument, its value and the accepted ones."""
    kind = TYPE_BY_NAME.get(type_.lower()) if isinstance(type_, str) else None
    if kind is None:
        raise MetricError(f"mtype: {safe_repr(type_)} is not allowed: use {', '.join(TYPES)}")
    return Identity(text("level", level), kind, text("name", name), text("source", source), _tags(tags), _rate(rate))


def text(argument: str, value: Any) -> str:
    """Return `value` if it can be a level, name or source. Raise `MetricError` otherwise."""
    if not isinstance(value, str) or not 1 <= len(value) <= TEXT_LENGTH:
        raise MetricError(f"{argument}: {safe_repr(value)} is not allowed: use a text of 1 to {TEXT_LENGTH} characters")
    if "\0" in value:
        raise MetricError(f"{argument}: {safe_repr(value)} is not allowed: it contains a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MetricError(f"{argument}: {safe_repr(value)} is not allowed: it contains a lone surrogate") from None
    return value


def number(argument: str, value: Any) -> float | int:
    """Return `value` as an int or a finite float; text such as "5" is parsed, as in 2013. Raise `MetricError`.

    Text is a decimal of the digits 0 to 9. Other forms that Python reads, such as `1_000`, are none to other readers.
    """
    if isinstance(value, str | bytes | bytearray):
        value = _number_of_text(argument, value)
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    try:
        found = float(value)
    except Exception:  # noqa: BLE001 - a foreign __float__ can raise anything
        raise MetricError(f"{argument}: {safe_repr(value)} is not a number") from None
    if not math.isfinite(found):
        raise MetricError(f"{argument}: {safe_repr(value)} is not allowed: use a finite number")
    return found


def _number_of_text(argument: str, value: str | bytes | bytearray) -> float | int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    raise MetricError(f"{argument}: {safe_repr(value)} is not a number")


def _tags(tags: Mapping[str, Any] | None) -> Tags:
    if tags is None:
        return ()
    if not isinstance(tags, Mapping):
        raise MetricError(f"tags: {safe_repr(tags)} is not allowed: use a dictionary such as {{'shop': 'berlin'}}")
    if len(tags) > MOST_TAGS:
        raise MetricError(f"tags: {len(tags)} are too many: at most {MOST_TAGS}")
    return tuple(sorted((text("tag", key), text(f"tag {key}", _as_text(value))) for key, value in tags.items()))


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a foreign __str__ can raise anything
        raise MetricError(f"tags: {safe_repr(value)} cannot be converted to text ({type(error).__name__})") from None


def safe_repr(value: Any) -> str:
    """Return `value` as text for an error message, even if its `repr` fails."""
    try:
        return repr(value)[:TEXT_LENGTH]
    except Exception:  # noqa: BLE001 - a foreign __repr__ can raise anything
        return f"a {type(value).__qualname__}"


def _rate(rate: Any) -> float:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not LEAST_RATE <= rate <= 1:
        raise MetricError(f"rate: {safe_repr(rate)} must be the share of calls to measure, from {LEAST_RATE} to 1")
    return float(rate)


def qualified_name(function: Any) -> str:
    """Return the default name of a metric of `function`: module and qualified name, at most 256 characters."""
    function = getattr(function, "func", function)  # functools.partial
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    found = f"{module}.{name}" if module else name
    return found[-TEXT_LENGTH:]
