"""Name the length of periods: a number of months, or of seconds, or that it varies.

A `Step` is how positions record it: a unit such as `hour` or `month`, several months or years as an ISO 8601 duration
(`P3M`, `P2Y`), any other length in seconds, or `varies/SECONDS/SECONDS` with a typical length and the shortest one.
"""

from __future__ import annotations

import re
from typing import Any, Final

from aggregates.period import SECONDS, Unit

Step = str | int

MONTH_S: Final = 2_629_746  # on average in the Gregorian calendar
_BY_SECONDS: Final[dict[int, Unit]] = {seconds: unit for unit, seconds in SECONDS.items()}
_MONTHS = re.compile(r"P([1-9]\d{0,4})([MY])\Z", re.ASCII)
_VARYING = re.compile(r"varies/([1-9]\d{0,11})/([1-9]\d{0,11})\Z", re.ASCII)


def of_seconds(seconds: int) -> Step:
    """Return a length in seconds as a step: a unit if it is one."""
    return _BY_SECONDS.get(seconds, seconds)


def of_months(count: int) -> Step:
    """Return `count` months as a step: `month`, `year`, `P3M`, `P2Y`."""
    if count in (1, 12):
        return "month" if count == 1 else "year"
    return f"P{count}M" if count % 12 else f"P{count // 12}Y"


def of_varying(typical_s: int, least_s: int) -> Step:
    """Return the step of periods whose lengths vary, as those of half months do: no rule says where they start."""
    return f"varies/{typical_s}/{least_s}"


def least_s(step: Step) -> int:
    """Return the shortest length of periods whose lengths vary, in seconds; 0 for any other step."""
    match = _VARYING.match(step) if isinstance(step, str) else None
    return int(match[2]) if match else 0


def months(step: Step) -> int:
    """Return how many months a step is long; 0 if its length is fixed."""
    if isinstance(step, int):
        return 0
    if step in ("month", "year"):
        return 1 if step == "month" else 12
    match = _MONTHS.match(step)
    return int(match[1]) * (12 if match[2] == "Y" else 1) if match else 0


def seconds(step: Step) -> int:
    """Return how many seconds a step is long, on average; for one that varies, what is typical."""
    if isinstance(step, int):
        return step
    if match := _VARYING.match(step):
        return int(match[1])
    return months(step) * MONTH_S or SECONDS[step]  # type: ignore[index]


def known(step: Any) -> Step | None:
    """Return a recorded step; None if it is none that this version knows."""
    if isinstance(step, str):
        return step if step in SECONDS or months(step) or least_s(step) else None
    return step if isinstance(step, int) and not isinstance(step, bool) and step > 0 else None


def name(step: Step) -> str:
    """Return the unit, or an ISO 8601 duration such as `PT6H`, `P10D` or `P3M`; if it varies, a typical one."""
    if least_s(step):
        return name(of_seconds(seconds(step)))
    if isinstance(step, str):
        return step
    for form, size in (("P{}D", 86_400), ("PT{}H", 3_600), ("PT{}M", 60)):
        if step % size == 0:
            return form.format(step // size)
    return f"PT{step}S"
