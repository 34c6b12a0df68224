"""Check what a worker reports as the result of a step, before anything of it is used. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce.job.value_check import shown
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.step import MAP_STEP, PLAN, REDUCE_STEP, SMALL

_COUNTS = ("docs_in", "pairs_out", "skipped_count")


def result_fault(kind: str, result: Mapping[str, Any], output: SplitOutput | None) -> str:
    """Return why the result of a step of this kind cannot be used, empty if it can."""
    try:
        found = _fault(kind, result, output)
    except Exception as error:  # noqa: BLE001 - a decoder can raise anything on untrusted input
        found = f"{type(error).__name__}: {error}"
    return f"its result cannot be used: {found}" if found else ""


def _fault(kind: str, result: Mapping[str, Any], output: SplitOutput | None) -> str:
    if (kind == MAP_STEP) != (output is not None):
        return f"a {kind} step is done {'without' if output is None else 'with'} map output"
    if kind == PLAN and not _are(result.get("splits"), _is_split):
        return f"splits {shown(result.get('splits'))}: must be a list of ranges of ids"
    if kind in (SMALL, REDUCE_STEP) and not _are(result.get("outputs"), _is_output):
        return f"outputs {shown(result.get('outputs'))}: must be a list of a label and four counts each"
    if kind == SMALL:
        wrong = [name for name in _COUNTS if not _is_count(result.get(name))]
        wrong += [] if isinstance(result.get("skipped_ids"), list) else ["skipped_ids"]
        if wrong:
            return ", ".join(f"{name} {shown(result.get(name))}" for name in wrong)
    if output is not None and not all(map(_is_segment, output.each())):
        return "segments: must be a label and four counts each"
    return ""


def _are(found: Any, valid: Any) -> bool:
    return isinstance(found, list) and all(map(valid, found))


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0


def _is_split(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() >= {"s", "c", "l", "h", "i"}
        and _is_count(found["s"])
        and isinstance(found["c"], str)
        and isinstance(found["i"], bool)
    )


def _is_output(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 5 and isinstance(found[0], str) and all(map(_is_count, found[1:]))


_is_segment = _is_output
