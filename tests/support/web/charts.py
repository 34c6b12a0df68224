"""Find charts on pages, as drawn by the browser."""

from __future__ import annotations

from typing import Any

LONG_NAME = f"a_name_{'that_says_everything_' * 4}"


def drawn(opened: Any, name: str = "", times: int = 1, timeout_ms: int = 90_000) -> Any:
    """Return the figure of a chart once it has been drawn at least `times` times."""
    figure = opened.locator(f'.chart[data-name="{name}"]')
    opened.wait_for_function(
        '([name, times]) => Number(document.querySelector(`.chart[data-name="${name}"]`)?.dataset.drawn ?? 0) >= times',
        arg=[name, times],
        timeout=timeout_ms,
    )
    return figure
