"""`runworker`: run a map-reduce worker."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from aggregates.task_modules import task_modules
from ingest.management.command import ZarkovCommand
from ingest.number_text import whole_number
from mapreduce.worker.worker import Worker


class Command(ZarkovCommand):
    help = "Perform the steps of map-reduce jobs, in one process per CPU by default."
    example = "manage.py runworker --processes 4"
    long_running = True
    binds = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes", type=whole_number, help="steps done at once (default: zmr.processes_per_worker)"
        )

    def perform(self, options: dict[str, Any]) -> None:
        """Work until a signal arrives, or until a router of another version is found."""
        processes = options["processes"]
        if processes is not None and processes < 1:
            raise CommandError(f"--processes must be a whole number of at least 1, not {processes}")
        worker = Worker(settings.ZARKOV.engine_settings(task_modules()), processes)
        try:
            worker.start()
            self.stdout.write(f"working with {worker.processes} processes as {worker.name}")
            self.stdout.flush()
            worker.run(self.stop)
        finally:
            worker.stop()
