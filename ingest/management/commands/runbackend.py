"""`manage.py runbackend NAME`."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand
from ingest.metrics.backend import registry
from ingest.metrics.backend.base import Backend, BackendOptions
from ingest.metrics.exceptions import BackendError
from ingest.metrics.wire import BACKENDS

COMMON = {"name", "levels", "flush", "broker"}
ONLY_VALUES = ("--levels", "--flush", "--broker")


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
        """Which options there are depends on the backend, wherever among the options its name stands."""
        name = self._name(argv[2:])
        if name is not None:
            self._backend = registry.find(name)
        super().run_from_argv(argv)

    def _name(self, arguments: list[str]) -> str | None:
        """The backend's name: what is no value of an option that every backend has, and is known."""
        options = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
        for option in (*ONLY_VALUES, "--settings", "--pythonpath", "-v", "--verbosity"):
            options.add_argument(option)
        try:
            rest = options.parse_known_args(arguments)[1]
        except argparse.ArgumentError:
            rest = arguments
        known = set(registry.names())
        return next((text for text in rest if text in known), None)

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of every backend; the others are read by the backend itself."""
        parser.add_argument("name", metavar="NAME", help="which backend")
        parser.add_argument("--levels", help="exactly these levels, with commas between (default: all)")
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
            settings.ZARKOV.connect_address("ack_bind_address")  # wrong settings are said now
            own["ingester"] = functools.partial(settings.ZARKOV.connect_address, "ack_bind_address")
        if found.name == "zarkov":
            settings.ZARKOV.client_keys()
            own["ingester_keys"] = settings.ZARKOV.client_keys
        if not options["broker"]:
            settings.ZARKOV.connect_address(BACKENDS)
        backend = found(
            BackendOptions(
                options["broker"] or functools.partial(settings.ZARKOV.connect_address, BACKENDS),
                _levels(options["levels"]),
                options["flush"],
                own,
            )
        )
        backend.start()
        self.stdout.write(f"backend {options['name']} listens at {backend.address}")
        self.stdout.flush()
        backend.run(self.stop)
        return 0


def _levels(said: str | None) -> tuple[str, ...]:
    """The levels between the commas; none when nothing was said, which means all."""
    if said is None:
        return ()
    found = tuple(filter(None, (level.strip() for level in said.split(","))))
    if not found:
        raise BackendError(f"levels: {said!r} names none: info,warn for these two, or leave --levels out for all")
    return found
