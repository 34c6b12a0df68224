"""`aggregate NAME`: run one aggregate now, and wait until it is done."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aggregates import services
from aggregates.exceptions import TimeTextError
from aggregates.models import Run
from aggregates.run.outcome import Outcome
from aggregates.services.preview import Preview
from aggregates.time_reader import read_time
from ingest.management.command import ZarkovCommand, name_program


class Command(ZarkovCommand):
    help = "Add new events to an aggregate, and wait until that is done. Exits 2 if no router answers."
    example = "manage.py aggregate commits_by_day --full"

    def add_arguments(self, parser: CommandParser) -> None:
        # Lets `--since -24h` be a value, as argparse does with negative numbers, and not an option that nobody has.
        parser._negative_number_matcher = re.compile(r"-\d")
        parser.add_argument("name", help="name of the aggregate")
        parser.add_argument("--full", action="store_true", help="recompute it from all stored events")
        parser.add_argument("--force", action="store_true", help="with --full: even if events it contains are gone")
        parser.add_argument(
            "--since", help="recompute the periods from here on: 2011-07-01, 2011-07-01T13:00Z, -24h; UTC"
        )
        parser.add_argument("--until", help="up to where this begins, exclusive; default: now")
        parser.add_argument(
            "--accept-change",
            action="store_true",
            help="its task or definition has changed, but its results are still right: continue without a full run",
        )
        parser.add_argument("--dry-run", action="store_true", help="show what a sample of the newest events gives")

    def perform(self, options: dict[str, Any]) -> int | None:
        """Run the aggregate. Return 1 if a full run has to come first."""
        aggdef = services.get_aggdef(options["name"])
        if options["dry_run"]:
            self._preview(services.preview(aggdef.definition()))
            return None
        if options["accept_change"]:
            services.accept_change(aggdef)
        mode = Run.Mode.FULL if options["full"] else Run.Mode.INCREMENTAL
        since = until = None
        if options["since"] or options["until"]:
            if options["full"]:
                raise CommandError("--full and --since exclude each other: a full run has no range")
            mode, since = Run.Mode.REBUILD, _moment(options["since"], "--since")
            until = _moment(options["until"], "--until") if options["until"] is not None else datetime.now(UTC)
        _, outcome = services.run_now(
            aggdef, mode, since=since, until=until, force=options["force"], report=self.stderr.write
        )
        self.stdout.write(outcome.sentence())
        command = name_program(f"manage.py aggregate {aggdef.name} --full")
        if isinstance(outcome, Outcome) and outcome.state == "blocked":
            self.stderr.write(
                f"make one with: {command}; or, if task or definition changed and "
                "the results are still right, continue with --accept-change"
            )
            return 1
        if isinstance(outcome, Outcome) and outcome.due:
            self.stderr.write(f"a full run is due: {outcome.due} ({command})")
        return None

    def _preview(self, preview: Preview) -> None:
        for output, pairs in preview.results.items():
            for key, value in pairs:
                self.stdout.write(f"zagg.{output}  {key!r}: {value!r}")
        self.stdout.write(f"dry run: {preview.docs_in} events read, {preview.key_count} keys; nothing was written")


def _moment(text: str | None, option: str) -> datetime:
    if text is None:
        raise CommandError(f"{option} is missing: give both ends of the range, such as --since 2011-07-01")
    try:
        return read_time(text, "UTC", datetime.now(UTC)).first
    except TimeTextError:
        raise CommandError(
            f"{option} {text!r} is not a time: use a form such as 2011-07-01 or 2011-07-01T13:00+02:00"
        ) from None
