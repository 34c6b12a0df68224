"""Check what a worker reports as the result of a step, before anything of it is used. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce.exceptions import CODES
from mapreduce.job.basic_job import RESULT_DEPTH
from mapreduce.job.value_check import DEPTH, shown
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, REDUCE_STEP, SMALL
from mapreduce.task_error import too_deep
from mapreduce.wire.message import is_count

_COUNTS = ("docs_in", "pairs_out", "skipped_count")


def result_fault(kind: str, result: Mapping[str, Any], output: SplitOutput | None, partitions: int) -> str:
    """Return why the result of a step of this kind cannot be used, empty if it can; `partitions` is their number."""
    try:
        found = _fault(kind, result, output, partitions)
    except Exception as error:  # noqa: BLE001 - a decoder can raise anything on untrusted input
        found = f"{type(error).__name__}: {error}"
    return f"its result cannot be used: {found}" if found else ""


def error_fault(error: Any) -> str:
    """Return why what a worker reports as the error of a step cannot be used, empty if it can."""
    if not isinstance(error, Mapping):
        return f"its error cannot be used: {shown(error)}"
    code, message, details = (error.get(name) for name in ("code", "message", "details"))
    if not (isinstance(code, str) and code in CODES):
        return f"its error cannot be used: code {shown(code)}"
    if not (isinstance(message, str) and message.strip()):
        return f"its error cannot be used: message {shown(message)} of code {code}"
    if not isinstance(details, Mapping) or too_deep(details, DEPTH):
        return f"its error cannot be used: details {shown(details)} of code {code}"
    return ""


def _fault(kind: str, result: Mapping[str, Any], output: SplitOutput | None, partitions: int) -> str:
    if (kind == MAP_STEP) != (output is not None):
        return f"a {kind} step is done {'without' if output is None else 'with'} map output"
    if kind == CALL and too_deep(result.get("result"), RESULT_DEPTH):
        return f"the result of the call is nested deeper than {RESULT_DEPTH} levels"
    if kind == PLAN and not _are(result.get("splits"), _is_split):
        return f"splits {shown(result.get('splits'))}: must be a list of ranges of ids"
    if kind in (SMALL, REDUCE_STEP) and not _are(result.get("outputs"), _is_output):
        return f"outputs {shown(result.get('outputs'))}: must be a list of a label and four counts each"
    if kind == SMALL:
        wrong = [name for name in _COUNTS if not is_count(result.get(name))]
        wrong += [] if isinstance(result.get("skipped_ids"), list) else ["skipped_ids"]
        if wrong:
            return ", ".join(f"{name} {shown(result.get(name))}" for name in wrong)
    for each in output.each() if output is not None else ():
        if not _is_output(each):
            return f"segment {shown(each)}: must be a label and four counts"
        if each[1] >= partitions:
            return f"segment {shown(each)}: must be of one of {partitions} partitions"
    return ""


def _are(found: Any, valid: Any) -> bool:
    return isinstance(found, list) and all(map(valid, found))


def _is_split(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() >= {"s", "c", "l", "h", "i"}
        and is_count(found["s"])
        and isinstance(found["c"], str)
        and isinstance(found["i"], bool)
    )


def _is_output(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 5 and isinstance(found[0], str) and all(map(is_count, found[1:]))
