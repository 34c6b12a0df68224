"""Render the traceback of task code, without the engine's frames above it."""

from __future__ import annotations

import traceback
from pathlib import Path

_HERE = str(Path(__file__).resolve().parent)
_LIMIT = 16_000


def task_traceback(error: BaseException) -> str:
    """Return the traceback from the first frame outside the engine, cut to its last 16,000 characters."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_HERE) and frame.tb_next is not None:
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    return text[-_LIMIT:]
