"""`checkconfig`: check the configuration without starting anything."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from zarkov_site.config.source import known_keys


class Command(ZarkovCommand):
    help = "Check the configuration from file, environment and --set; an error is reported with exit code 1."
    example = "manage.py checkconfig --config zarkov.yaml --show"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--show", action="store_true", help="print every key with its value")

    def perform(self, options: dict[str, Any]) -> int:
        for warning in settings.ZARKOV_WARNINGS:
            self.stderr.write(f"warning: {warning}")
        if options["show"]:
            for key in known_keys():
                self.stdout.write(f"{key} = {attrgetter(key)(settings.ZARKOV)}")
        self.stdout.write("the configuration is valid")
        return 0
