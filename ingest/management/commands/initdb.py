"""`manage.py initdb`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from ingest.store.store import connect


class Command(ZarkovCommand):
    """Prepare the event store in MongoDB."""

    help = (
        "Make the event store in MongoDB where it is missing: partition 1, the view `event`, indexes. Safe to repeat."
    )
    example = "manage.py initdb --restored"

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument(
            "--restored",
            action="store_true",
            help="say that the database came back from a copy: journals and positions from before are not trusted",
        )

    def perform(self, options: dict[str, Any]) -> None:
        """Prepare, and say which store it is."""
        config = settings.ZARKOV
        store = connect(config.mongo_address, config.mongo_database)
        mark = store.prepare()
        if options["restored"]:
            mark = store.restored()
        self.stdout.write(f"database {config.mongo_database}: store {mark.store}, epoch {mark.epoch}")
