"""Decide what is wrong with an aggregate. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

FAILING, LAGGING, WRONG = "failing", "lagging", "wrong"
KINDS = (FAILING, LAGGING, WRONG)
REALTIME_FAILURES = 2  # a realtime refresh is retried within a second: a single failure needs no alert


@dataclass(frozen=True)
class AggregateFacts:
    """The state of an aggregate that alerts depend on."""

    name: str
    enabled: bool
    realtime: bool
    failing: bool  # its last run failed
    failures: int  # in a row
    full_due: str  # why it waits for a full run; "" if it does not
    last_error: str
    behind: int  # readable events not yet included
    complete_through: datetime | None  # every event committed before this is included
    verified_ok: bool | None  # None = never verified, or could not be
    verification: str  # what it found, in sentences


def conditions(facts: AggregateFacts, now: datetime, lag_s: float) -> dict[str, str]:
    """Return a sentence for each kind of problem; lags are reported above `lag_s` seconds, and never if it is 0.

    For a paused aggregate, only a failed verification is reported: a person has stopped it on purpose.
    """
    found: dict[str, str] = {}
    if facts.verified_ok is False:
        found[WRONG] = f"{facts.name} differs from the recount of its events: {_first_line(facts.verification)}"
    if not facts.enabled:
        return found
    if facts.full_due:
        found[FAILING] = f"{facts.name} is stopped until a full run: {facts.full_due}"
    elif facts.failing and facts.failures >= (REALTIME_FAILURES if facts.realtime else 1):
        found[FAILING] = f"{facts.name} fails ({facts.failures} times in a row): {_first_line(facts.last_error)}"
    lag = lag_of(facts, now)
    if facts.realtime and lag_s and lag > lag_s:
        found[LAGGING] = f"{facts.name} is {lag:.0f} s and {facts.behind} events behind; {lag_s:g} s are allowed"
    return found


def lag_of(facts: AggregateFacts, now: datetime) -> float:
    """Return the maximum age of the oldest event not yet included, in seconds; 0 if all are included."""
    if not facts.behind or facts.complete_through is None:
        return 0.0
    return max((now - facts.complete_through).total_seconds(), 0.0)


@dataclass(frozen=True)
class Change:
    """One condition that was raised or has recovered."""

    kind: str
    raised: bool
    text: str


def changes(reported: Iterable[str], found: dict[str, str], name: str) -> list[Change]:
    """Return the changes to report: conditions not reported yet, and reported ones that no longer hold."""
    before = set(reported)
    new = [Change(kind, True, text) for kind, text in found.items() if kind not in before]
    return new + [Change(kind, False, _RECOVERED[kind].format(name=name)) for kind in sorted(before - set(found))]


_RECOVERED = {
    FAILING: "{name} runs again",
    LAGGING: "{name} is up to date again",
    WRONG: "{name} is equal to the recount of its events again",
}


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no reason given"])[0][:500]
