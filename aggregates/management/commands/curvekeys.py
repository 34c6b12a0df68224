"""`manage.py curvekeys`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from mapreduce.curve import make_keys, write_keys


class Command(ZarkovCommand):
    """Make the keys that encrypt the sockets of the map-reduce engine."""

    help = (
        "Make the key pair that router, workers and clients of the map-reduce engine share. With it their sockets are "
        "encrypted and take nobody else. Copy the file to every machine of the installation, and restart the processes."
    )
    example = "manage.py curvekeys"

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--force", action="store_true", help="replace keys that are there")

    def perform(self, options: dict[str, Any]) -> None:
        """Write the file."""
        path = settings.ZARKOV.folder.keys / "zmr.curve"
        write_keys(path, make_keys(), replace=options["force"])
        self.stdout.write(f"wrote {path}")
