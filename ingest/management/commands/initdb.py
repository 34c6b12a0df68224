"""`initdb`: create what is missing of the event store; after a restore, start its next epoch."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from ingest.store.store import connect


class Command(ZarkovCommand):
    help = (
        "Create what is missing of the event store in MongoDB: partition 1, the view `event`, indexes. Safe to repeat."
    )
    example = "manage.py initdb --restored"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--restored",
            action="store_true",
            help="the database was restored from a copy: do not trust journals and positions from before",
        )

    def perform(self, options: dict[str, Any]) -> None:
        config = settings.ZARKOV
        store = connect(config.mongo_address, config.mongo_database)
        identity = store.prepare()
        if options["restored"]:
            identity = store.restored()
        self.stdout.write(f"database {config.mongo_database}: store {identity.store}, epoch {identity.epoch}")
