"""Draw a few numbers as a small chart, and states as words with a symbol."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

BAR, GAP, HEIGHT = 3, 1, 18  # pixels
_SYMBOLS = {
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
    """Return an SVG of one bar per number, from left to right; a zero is a thin line. Needs at least one number."""
    highest = max(*numbers, 1)
    bars = []
    for number, value in enumerate(numbers):
        tall = max(round(value / highest * HEIGHT), 1)
        bars.append((number * (BAR + GAP), HEIGHT - tall, BAR, tall))
    return format_html(
        '<svg class="zk-spark" width="{}" height="{}" role="img" aria-label="{}"><title>{}</title>{}</svg>',
        len(numbers) * (BAR + GAP),
        HEIGHT,
        title,
        title,
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"/>', bars),
    )


def state_label(state: str, words: str) -> SafeString:
    """Return a state as symbol and words, so that colour is not the only sign."""
    symbol = _SYMBOLS.get(state, "")
    return format_html(
        '<span class="zk-state zk-{}"><span aria-hidden="true">{}</span> {}</span>', state, symbol, words
    )
