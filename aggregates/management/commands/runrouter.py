"""`runrouter`: run the map-reduce router."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from aggregates.task_modules import task_modules
from ingest.log_limit import LogLimit
from ingest.management.command import ZarkovCommand
from mapreduce.router.router import Router

LOG_EVERY_S = 60.0  # for each kind of line that anybody who connects can cause


class Command(ZarkovCommand):
    help = "Accept map-reduce jobs, hand their steps out to workers, and keep job records in MongoDB."
    example = "manage.py runrouter --set zmr.req_bind=tcp://127.0.0.1:5555"
    long_running = True
    binds = True

    def perform(self, options: dict[str, Any]) -> None:
        """Serve until a signal or a client's `terminate` arrives."""
        folder = settings.ZARKOV.folder
        router = Router(settings.ZARKOV.engine_settings(task_modules()), self._report, LogLimit(LOG_EVERY_S).allows)
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
