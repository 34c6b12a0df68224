"""Name the length of periods: a number of months, whose lengths vary, or of seconds.

A `Step` is how positions record it and how the API calls it: a unit such as `hour` or `month`, several months or years
as an ISO 8601 duration (`P3M`, `P2Y`), or any other length in seconds.
"""

from __future__ import annotations

import re
from typing import Any, Final

from aggregates.period import SECONDS, Unit

Step = str | int

MONTH_S: Final = 2_629_746  # on average in the Gregorian calendar
_BY_SECONDS: Final[dict[int, Unit]] = {seconds: unit for unit, seconds in SECONDS.items()}
_MONTHS = re.compile(r"P([1-9]\d{0,4})([MY])\Z", re.ASCII)


def of_seconds(seconds: int) -> Step:
    """Return a length in seconds as a step: a unit if it is one."""
    return _BY_SECONDS.get(seconds, seconds)


def of_months(count: int) -> Step:
    """Return `count` months as a step: `month`, `year`, `P3M`, `P2Y`."""
    if count in (1, 12):
        return "month" if count == 1 else "year"
    return f"P{count}M" if count % 12 else f"P{count // 12}Y"


def months(step: Step) -> int:
    """Return how many months a step is long; 0 if its length is fixed."""
    if isinstance(step, int):
        return 0
    if step in ("month", "year"):
        return 1 if step == "month" else 12
    match = _MONTHS.match(step)
    return int(match[1]) * (12 if match[2] == "Y" else 1) if match else 0


def seconds(step: Step) -> int:
    """Return how many seconds a step is long, on average."""
    if isinstance(step, int):
        return step
    return months(step) * MONTH_S or SECONDS[step]  # type: ignore[index]


def known(step: Any) -> Step | None:
    """Return a recorded step; None if it is none that this version knows."""
    if isinstance(step, str):
        return step if step in SECONDS or months(step) else None
    return step if isinstance(step, int) and not isinstance(step, bool) and step > 0 else None


def name(step: Step) -> str:
    """Return the unit, or an ISO 8601 duration such as `PT5M`, `PT6H`, `P10D` or `P3M`."""
    if isinstance(step, str):
        return step
    for form, size in (("P{}D", 86_400), ("PT{}H", 3_600), ("PT{}M", 60)):
        if step % size == 0:
            return form.format(step // size)
    return f"PT{step}S"
