"""`runrouter`: run the map-reduce router."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from aggregates.task_modules import task_modules
from ingest.management.command import ZarkovCommand
from mapreduce.router.router import Router


class Command(ZarkovCommand):
    help = "Accept map-reduce jobs, hand their steps out to workers, and keep job records in MongoDB."
    example = "manage.py runrouter --set zmr.req_bind=tcp://127.0.0.1:5555"
    long_running = True
    binds = True

    def perform(self, options: dict[str, Any]) -> None:
        """Serve until a signal or a client's `terminate` arrives."""
        folder = settings.ZARKOV.folder
        router = Router(settings.ZARKOV.engine_settings(task_modules()), self._report)
        addresses: dict[str, str] = {}
        try:
            addresses = router.start()
            folder.record_addresses(addresses)
            router.run(self.stop)
        finally:
            router.stop()
            folder.remove_addresses(addresses)

    def _report(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
