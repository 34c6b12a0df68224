"""A line of a few numbers as a small picture, and states as words with a mark."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 90, 18
_MARKS = {
    "ok": "✓",
    "complete": "✓",
    "failing": "✗",
    "error": "✗",
    "full_due": "!",
    "new": "·",
    "planned": "·",
    "running": "▸",
    "cancelled": "–",
    "paused": "‖",
}


def sparkline(numbers: Sequence[float], title: str) -> SafeString:
    """An SVG of the numbers from left to right; empty when there are fewer than two."""
    if len(numbers) < 2:
        return SafeString("")
    highest = max(max(numbers), 1)
    step = WIDTH / (len(numbers) - 1)
    points = " ".join(
        f"{n * step:.1f},{HEIGHT - 1 - value / highest * (HEIGHT - 2):.1f}" for n, value in enumerate(numbers)
    )
    return format_html(
        '<svg width="{}" height="{}" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>'
        '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>',
        WIDTH,
        HEIGHT,
        WIDTH,
        HEIGHT,
        title,
        title,
        points,
    )


def mark(state: str, words: str) -> SafeString:
    """A state as a mark and words; colour is not the only sign."""
    return format_html(
        '<span class="zk-state zk-{}"><span aria-hidden="true">{}</span> {}</span>', state, _MARKS.get(state, ""), words
    )
