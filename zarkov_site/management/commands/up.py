"""`up`: run the whole system until Ctrl-C."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from ingest.management.stop_signal import stop_on_signals


class Command(ZarkovCommand):
    help = "Start everything (mongod, ingester, router, workers, aggregator, Celery, web) and watch it until Ctrl-C."
    example = "manage.py up --set web_port=8082 --set anonymous_read=true"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-sample", action="store_true", help="start with an empty store the first time too")

    def perform(self, options: dict[str, Any]) -> int:
        from zarkov_site.processes.launch import Launch

        for warning in settings.ZARKOV_WARNINGS:
            self.stderr.write(f"warning: {warning}")
        with stop_on_signals() as stop:
            Launch(settings.ZARKOV, stop.is_set, with_sample=not options["no_sample"], output=sys.stdout).run()
        return 0
