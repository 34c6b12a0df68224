"""`runingest`: receive events, journal them and commit them to MongoDB; with `--processes`, balance the load."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import gevent
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from gevent.socket import wait_read

from ingest.management.command import ZarkovCommand, measure_own
from ingest.number_text import whole_number
from ingest.server.ingester import Ingester
from ingest.server.load_balancer import LoadBalancer, child_settings
from ingest.settings import IngestSettings

END_WITH_PARENT = "ZARKOV_END_WITH_PARENT"  # the child asks the kernel for SIGTERM when its parent ends


class Command(ZarkovCommand):
    help = "Receive events on the BSON, JSON and acknowledged sockets, journal them, commit them to MongoDB."
    example = "manage.py runingest --processes 2 --set journal_max_bytes=4GiB"
    long_running = True
    binds = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--rebind",
            action="store_true",
            help="commit journals of another store to this one, after its database was emptied or replaced for good",
        )
        parser.add_argument(
            "--processes",
            type=whole_number,
            default=1,
            metavar="N",
            help="ingesters behind a load balancer that binds the addresses and shares the input out (default 1)",
        )
        parser.add_argument("--child", metavar="FOLDER:NUMBER", help=argparse.SUPPRESS)

    def perform(self, options: dict[str, Any]) -> None:
        count, ingest = options["processes"], settings.ZARKOV.ingest_settings()
        if count < 1:
            raise CommandError(f"--processes {count} must be 1 or more")
        if options["child"]:
            folder, _, number = options["child"].rpartition(":")
            self._serve(child_settings(ingest, Path(folder), int(number)), options["rebind"])
        elif count == 1:
            self._serve(ingest, options["rebind"], record=True)
        else:
            self._serve_behind_balancer(ingest, count, options["rebind"])

    def _serve(self, ingest: IngestSettings, rebind: bool, *, record: bool = False) -> None:
        measure_own("ingester")
        ingester = Ingester(ingest, rebind=rebind)
        ingester.start()
        try:
            if record:
                self._announce(ingester.addresses)
            gevent.spawn(self._stop_on_signal, ingester)
            ingester.run()
        finally:
            if record:
                settings.ZARKOV.folder.remove_addresses(ingester.addresses)

    def _serve_behind_balancer(self, ingest: IngestSettings, count: int, rebind: bool) -> None:
        def command(folder: Path, number: int) -> list[str]:
            line = [sys.executable, *_own_program(), "runingest", "--child", f"{folder}:{number}"]
            return [*line, "--rebind"] if rebind else line

        home = settings.ZARKOV.folder
        balancer = LoadBalancer(ingest, count, home.run, command, os.environ | {END_WITH_PARENT: "1"})
        balancer.start()
        addresses = balancer.addresses
        try:
            balancer.wait_until_ready(self.stop)
            self._announce(addresses)
            balancer.run(self.stop)
        finally:
            balancer.close()
            home.remove_addresses(addresses)

    def _announce(self, addresses: dict[str, str]) -> None:
        settings.ZARKOV.folder.record_addresses(addresses)
        self.stdout.write("receiving events at " + ", ".join(f"{key} {address}" for key, address in addresses.items()))
        self.stdout.flush()

    def _stop_on_signal(self, ingester: Ingester) -> None:
        wait_read(self.stop.fileno())
        ingester.request_stop()


def _own_program() -> list[str]:
    """Return the arguments that make Python run the program that this process runs."""
    return ["-P", "-m", "zarkov_site"] if Path(sys.argv[0]).name == "__main__.py" else [sys.argv[0]]
