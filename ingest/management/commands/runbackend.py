"""`manage.py runbackend NAME`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from ingest.metrics.backend import registry
from ingest.metrics.backend.base import Backend, BackendOptions
from ingest.metrics.wire import BACKENDS

COMMON = {"name", "levels", "flush", "broker"}


class Command(ZarkovCommand):
    """Take measurements from the broker to another system."""

    help = (
        "Take measurements from the broker to another system. NAME is zarkov, librato, statsd, graphite, log, or one "
        "that an installed package offers as entry point zarkov.backends. Each has options of its own, which "
        "runbackend NAME --help shows."
    )
    example = "manage.py runbackend log --levels info,warn --flush 60"
    long_running = True
    _backend: type[Backend] | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Which options there are depends on the backend, the first argument that is no option."""
        name = next((text for text in argv[2:] if not text.startswith("-")), None)
        if name in registry.names():
            self._backend = registry.find(name)
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of every backend; the others are read by the backend itself."""
        parser.add_argument("name", metavar="NAME", help="which backend")
        parser.add_argument("--levels", default="", help="exactly these levels, with commas between (default: all)")
        parser.add_argument("--flush", type=float, default=60.0, metavar="SECONDS", help="pause between deliveries")
        parser.add_argument(
            "--broker", metavar="ADDRESS", help="the broker's socket for backends (default: configured)"
        )
        if self._backend is not None:
            self._backend.add_arguments(parser.add_argument_group(f"options of {self._backend.name}"))

    def perform(self, options: dict[str, Any]) -> int:
        """Work until a signal comes."""
        found = registry.find(options["name"])
        own = {name: value for name, value in options.items() if name not in COMMON}
        if found.name == "zarkov" and not own.get("ingester"):
            own["ingester"] = settings.ZARKOV.connect_address("ack_bind_address")
        backend = found(
            BackendOptions(
                options["broker"] or settings.ZARKOV.connect_address(BACKENDS),
                tuple(filter(None, (level.strip() for level in options["levels"].split(",")))),
                options["flush"],
                own,
            )
        )
        backend.start()
        self.stdout.write(f"backend {options['name']} listens at {backend.options.address}")
        self.stdout.flush()
        backend.run(self.stop)
        return 0
