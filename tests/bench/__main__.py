"""Run the benchmarks (`make bench`), print a table, write `bench.json`; fail if a result misses its target."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import agg, ingest, metrics, mr, web
from tests.support.leftovers import guard

Row = dict[str, Any]  # {name, ours, peer, ratio, unit, must, ok}
COLUMNS = ("name", "ours", "peer", "ratio", "unit", "must", "ok")
BENCHMARKS: dict[str, Callable[[], Any]] = (
    ingest.BENCHMARKS | mr.BENCHMARKS | agg.BENCHMARKS | web.BENCHMARKS | metrics.BENCHMARKS
)


def choose_benchmarks(only: str) -> list[str]:
    """Return the names in `only`, separated by commas, or all if it is empty. Exit if one is unknown."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(unknown)}: use {', '.join(BENCHMARKS)}")
    return names or list(BENCHMARKS)


def format_cell(value: Any) -> str:
    """Return a value as text for the table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "ok" if value else "MISSED"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text."""
    cells = [list(COLUMNS), *([format_cell(row.get(column)) for column in COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)


def main() -> int:
    """Run the chosen benchmarks. Return 1 if a result misses its target."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default="", help="names with commas between them, such as ingest.push,mr.scaling")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    guard()
    rows: list[Row] = []
    for name in choose_benchmarks(options.only):
        print(f"running {name}", file=sys.stderr, flush=True)
        found = BENCHMARKS[name]()
        rows += found if isinstance(found, list) else [found]
        options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(format_table(rows))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
