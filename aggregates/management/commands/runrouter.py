"""`runrouter`: run the map-reduce router."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings

from aggregates.task_modules import task_modules
from ingest.log_limit import LogLimit
from ingest.management.command import ZarkovCommand
from ingest.transport.hold_decision import Progress, Reading
from ingest.transport.memory_limit import MIB, MemoryLimit
from mapreduce.router.router import Router

WORKER_ROOM_BYTES = 256 * MIB  # many may report results at once; a worker that is held seems slow
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
            progress = partial(_progress, router)
            memory_limits = [
                MemoryLimit({addresses["zmr.req_bind"]: progress}),
                MemoryLimit({addresses["zmr.worker_bind"]: progress}, room_bytes=WORKER_ROOM_BYTES),
            ]
            for each in memory_limits:
                each.start()
            try:
                router.run(self.stop)
            finally:
                for each in memory_limits:
                    each.stop()
        finally:
            router.stop()
            folder.remove_addresses(addresses)

    def _report(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _progress(router: Router) -> Progress:
    return Progress(Reading.IDLE if router.waits else Reading.BUSY, router.reader.large_count, router.reader.read_bytes)
