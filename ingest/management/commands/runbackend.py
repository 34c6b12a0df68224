"""`runbackend NAME`: deliver measurements from the broker to another system."""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from ingest.management.command import ZarkovCommand, one_line
from ingest.metrics.backend.backend_lookup import GROUP, backend_names, load_backend
from ingest.metrics.backend.interface import Backend, BackendOptions
from ingest.metrics.exceptions import BackendError
from ingest.metrics.wire import BACKENDS
from ingest.number_text import decimal_number

COMMON_OPTIONS = {"name", "levels", "flush", "broker"}


class Command(ZarkovCommand):
    help = (
        f"Deliver measurements from the broker to another system. NAME is {', '.join(backend_names())}; an installed "
        f"package can add others by the entry point {GROUP}. runbackend NAME --help shows the options of each."
    )
    example = "manage.py runbackend log --levels info,warn --flush 60"
    long_running = True
    _backend: type[Backend] | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Find the backend first, since it adds options; its name can be anywhere among them."""
        name = self._name(argv[2:])
        if name is not None:
            try:
                self._backend = load_backend(name)
            except BackendError as error:
                sys.exit(f"CommandError: {one_line(error)}")  # Django reports errors only once it has parsed
        super().run_from_argv(argv)

    def _name(self, arguments: list[str]) -> str | None:
        """Return the first known backend name that is not the value of a common option, or None."""
        options = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
        for option in ("--levels", "--flush", "--broker", "--settings", "--pythonpath", "-v", "--verbosity"):
            options.add_argument(option)
        try:
            rest = options.parse_known_args(arguments)[1]
        except argparse.ArgumentError:
            rest = arguments
        known = set(backend_names())
        return next((text for text in rest if text in known), None)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the common options, and those of the backend if it is known."""
        parser.add_argument("name", metavar="NAME", help="which backend")
        parser.add_argument("--levels", help="exactly these levels, separated by commas (default: all)")
        parser.add_argument(
            "--flush", type=decimal_number, default=60.0, metavar="SECONDS", help="pause between deliveries"
        )
        parser.add_argument(
            "--broker", metavar="ADDRESS", help="the broker's socket for backends (default: configured)"
        )
        if self._backend is not None:
            self._backend.add_arguments(parser.add_argument_group(f"options of {self._backend.name}"))

    def perform(self, options: dict[str, Any]) -> int:
        found = load_backend(options["name"])
        own = {name: value for name, value in options.items() if name not in COMMON_OPTIONS}
        if found.name == "zarkov":
            if not own.get("ingester"):
                own["ingester"] = functools.partial(settings.ZARKOV.connect_address, "ack_bind_address")
            settings.ZARKOV.client_keys()
            own["ingester_keys"] = settings.ZARKOV.client_keys
        backend = found(
            BackendOptions(
                options["broker"] or functools.partial(settings.ZARKOV.connect_address, BACKENDS),
                _levels(options["levels"]),
                options["flush"],
                own,
            )
        )
        backend.start()
        found_at = f"listens at {backend.address}" if backend.address else "waits for the broker to start"
        self.stdout.write(f"backend {options['name']} {found_at}")
        self.stdout.flush()
        backend.run(self.stop)
        return 0


def _levels(option: str | None) -> tuple[str, ...]:
    """Return the levels between the commas, or () without the option, which means all."""
    if option is None:
        return ()
    found = tuple(filter(None, (level.strip() for level in option.split(","))))
    if not found:
        raise BackendError(f"levels: {option!r} names none: write info,warn for these two, or omit --levels for all")
    return found
