"""Each page preloads all script modules that it needs, so that they load at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.template.loader import render_to_string

from zarkov_site.config.config import REPOSITORY

FOLDER = REPOSITORY / "aggregates" / "static" / "zarkov"


def _imports(path: Path) -> set[Path]:
    """Return every module that a module imports, directly or not."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        here = waiting.pop()
        if not here.is_relative_to(FOLDER):
            continue
        for name in re.findall(r'from "(\.[^"]+)";', here.read_text()):
            target = (here.parent / name).resolve()
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


@pytest.mark.parametrize("entry", ["charts-page.js", "overview-page.js"])
def test_exactly_the_needed_modules_are_preloaded(entry: str) -> None:
    head = render_to_string("zarkov/modules.html")
    preloaded = {name.removeprefix("/static/") for name in re.findall(r'rel="modulepreload" href="([^"]+)"', head)}
    needed = {str(path.relative_to(FOLDER.parent)) for path in _imports(FOLDER / entry)}
    assert needed <= preloaded
    everything = _imports(FOLDER / "charts-page.js") | _imports(FOLDER / "overview-page.js")
    assert preloaded == {str(path.relative_to(FOLDER.parent)) for path in everything}


def test_times_are_formatted_in_zones_by_one_module_which_cannot_throw() -> None:
    others = [path for path in FOLDER.glob("*.js") if path.name != "zone.js"]
    assert not [
        path.name for path in others if re.search(r"DateTimeFormat\(undefined|timeZone|toLocale", path.read_text())
    ]
    shown = {path.name: re.findall(r"uPlot\.tzDate\(.*", path.read_text()) for path in others}
    assert all("readableZone(" in call for calls in shown.values() for call in calls)
