"""What is wrong with an aggregate, decided from what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

FAILING, LAGGING, WRONG = "failing", "lagging", "wrong"
KINDS = (FAILING, LAGGING, WRONG)
REALTIME_FAILURES = 2  # a realtime refresh is tried again within a second: one failure alone is nobody's business


@dataclass(frozen=True)
class AggregateFacts:
    """An aggregate as its definition's page shows it."""

    name: str
    enabled: bool
    realtime: bool
    failing: bool  # its last run failed
    failures: int  # in a row
    full_due: str  # why it waits for a full run; "" when it does not
    last_error: str
    behind: int  # events that may be read and are not in
    complete_through: datetime | None  # every event committed before this is in
    verdict_ok: bool | None  # None = never verified, or could not be
    verdict: str


def conditions(known: AggregateFacts, now: datetime, lag_s: float) -> dict[str, str]:
    """What is wrong, in a sentence by kind; `lag_s` is the lag that is worth telling, 0 = none is.

    A paused aggregate has nothing wrong with it but a failed verification: somebody has stopped it knowingly.
    """
    found: dict[str, str] = {}
    if known.verdict_ok is False:
        found[WRONG] = f"{known.name} differs from the recount of its events: {_first_line(known.verdict)}"
    if not known.enabled:
        return found
    if known.full_due:
        found[FAILING] = f"{known.name} stands still until a full run: {known.full_due}"
    elif known.failing and known.failures >= (REALTIME_FAILURES if known.realtime else 1):
        found[FAILING] = f"{known.name} fails ({known.failures} times in a row): {_first_line(known.last_error)}"
    lag = lag_of(known, now)
    if known.realtime and lag_s and lag > lag_s:
        found[LAGGING] = f"{known.name} is {lag:.0f} s and {known.behind} events behind; {lag_s:g} s are allowed"
    return found


def lag_of(known: AggregateFacts, now: datetime) -> float:
    """How old the oldest event that is not in may be, in seconds; 0 when all are in."""
    if not known.behind or known.complete_through is None:
        return 0.0
    return max((now - known.complete_through).total_seconds(), 0.0)


@dataclass(frozen=True)
class Change:
    """One condition that came or went."""

    kind: str
    raised: bool
    text: str


def changes(told: Iterable[str], found: dict[str, str], name: str) -> list[Change]:
    """What is to be told: conditions that were not told yet, and told ones that hold no longer."""
    before = set(told)
    new = [Change(kind, True, text) for kind, text in found.items() if kind not in before]
    return new + [Change(kind, False, _RECOVERED[kind].format(name=name)) for kind in sorted(before - set(found))]


_RECOVERED = {
    FAILING: "{name} runs again",
    LAGGING: "{name} is up to date again",
    WRONG: "{name} is equal to the recount of its events again",
}


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no reason given"])[0][:500]
