"""`verify NAME`: recount an aggregate by a plain loop, and list the differences."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from aggregates import services
from aggregates.models import AggDef
from ingest.management.command import ZarkovCommand


class Command(ZarkovCommand):
    help = (
        "Recount an aggregate by a plain loop over the stored events, up to its position, and compare every "
        "document. Exits 1 if there are differences."
    )
    example = "manage.py verify commits_by_day"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="names of aggregates")
        parser.add_argument("--all", action="store_true", help="every enabled aggregate that has run")

    def perform(self, options: dict[str, Any]) -> int | None:
        """Verify each aggregate. Return 1 if any of them differs."""
        aggdefs = [services.get_aggdef(name) for name in options["names"]]
        if options["all"]:
            aggdefs += AggDef.objects.filter(enabled=True, generation__gt=0).exclude(name__in=options["names"])
        if not aggdefs and not options["all"]:
            raise CommandError("name at least one aggregate, or use --all")
        wrong = 0
        for aggdef in aggdefs:
            comparison = services.verify_now(aggdef)
            self.stdout.write(comparison.sentence())
            for difference in comparison.differences:
                self.stdout.write(f"  {difference.sentence()}")
            if comparison.difference_count > len(comparison.differences):
                self.stdout.write(f"  and {comparison.difference_count - len(comparison.differences)} more")
            wrong += not comparison.ok
        return 1 if wrong else None
