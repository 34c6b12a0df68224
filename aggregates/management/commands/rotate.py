"""`rotate`: open the next partition, and move the oldest ones to files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from aggregates.services.retention import lowest_position
from ingest.management.command import ZarkovCommand
from ingest.number_text import whole_number
from ingest.store.rotation import RotationError, rotate
from ingest.store.store import connect


class Command(ZarkovCommand):
    help = (
        "Open the next partition of the event store, dump the oldest ones beyond --keep to DIR as *.bson.gz, verify "
        "each dump and drop the partition. A partition that an enabled aggregate has not read is kept. Safe while "
        "everything runs; `loadevents` restores a dump."
    )
    example = "manage.py rotate /backup/events --keep 12"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", metavar="DIR", type=Path)
        parser.add_argument(
            "--keep", type=whole_number, default=2, metavar="N", help="partitions that stay, the new one included (2)"
        )

    def perform(self, options: dict[str, Any]) -> None:
        if options["keep"] < 1:
            raise CommandError(f"--keep must be at least 1 (only the new partition stays), not {options['keep']}")
        config = settings.ZARKOV
        store = connect(config.mongo_address, config.mongo_database)
        with contextlib.closing(store.connection):
            slowest = lowest_position()
            try:
                with tqdm(unit=" events", disable=None if options["verbosity"] else True, leave=False) as progress:
                    opened, dumps = rotate(
                        store, options["folder"], keep=options["keep"],
                        needed_above=slowest.through if slowest else None, on_progress=progress.update,
                    )  # fmt: skip
            except RotationError as error:
                raise CommandError(f"{error} (the slowest: {slowest.name})" if slowest else str(error)) from None
        for made in dumps:
            self.stdout.write(f"{made.partition.name}: {made.count:,} events are in {made.path} now")
        self.stdout.write(f"new events go to {opened.name} from id {opened.first_id} on")
