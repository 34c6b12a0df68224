"""`manage.py runingest`."""

from __future__ import annotations

from typing import Any

import gevent
from django.conf import settings
from django.core.management.base import CommandParser
from gevent.socket import wait_read

from ingest.ingester import Ingester
from ingest.management.command import ZarkovCommand, measure_own


class Command(ZarkovCommand):
    """Receive events, journal them and commit them to MongoDB."""

    help = "Receive events on the BSON, JSON and acknowledged sockets, journal them, commit them to MongoDB."
    example = "manage.py runingest --set journal_max_bytes=4GiB"
    long_running = True
    binds = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument(
            "--rebind",
            action="store_true",
            help="take journals of another store into this one: after its database was emptied or replaced for good",
        )

    def perform(self, options: dict[str, Any]) -> None:
        """Serve until a signal comes."""
        folder = settings.ZARKOV.folder
        ingester = Ingester(settings.ZARKOV.ingest_settings(), rebind=options["rebind"])
        measure_own("ingester")
        ingester.start()
        folder.record_addresses(ingester.addresses)
        self.stdout.write("taking events at " + ", ".join(f"{k} {a}" for k, a in ingester.addresses.items()))
        self.stdout.flush()
        gevent.spawn(self._stop_on_signal, ingester)
        try:
            ingester.run()
        finally:
            folder.forget_addresses(ingester.addresses)

    def _stop_on_signal(self, ingester: Ingester) -> None:
        wait_read(self.stop.fileno())
        ingester.request_stop()
