"""`manage.py loadevents`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from tqdm import tqdm

from ingest.client import AcknowledgedClient
from ingest.load import LoadResult, load_file
from ingest.management.command import ZarkovCommand


class Command(ZarkovCommand):
    """Send events from files through the acknowledged socket."""

    help = (
        "Send the events of files of JSON lines or of BSON dumps (.bson, as `rotate` makes them; .gz too) to the "
        "ingester and wait until they are on its disk. May be repeated: events without `id` get one, so that none is "
        "stored twice."
    )
    example = "manage.py loadevents commits.jsonl.gz"

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
        parser.add_argument("--address", help="acknowledged socket (default: the configured ingester's)")

    def perform(self, options: dict[str, Any]) -> int:
        """Load file after file; 1 when something was refused."""
        address = options["address"] or settings.ZARKOV.connect_address("ack_bind_address")
        result = LoadResult()
        with (
            AcknowledgedClient(address) as client,
            tqdm(unit=" events", disable=None if options["verbosity"] else True) as progress,
        ):
            for path in options["files"]:
                load_file(client, path, result, on_progress=progress.update)
        for example in result.examples:
            self.stderr.write(example)
        self.stdout.write(f"{result.accepted} events accepted, {result.rejected} refused")
        return 1 if result.rejected else 0
