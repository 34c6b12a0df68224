"""`curvekeys`: create the keys that encrypt the sockets of ingester and map-reduce engine."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from ingest.management.command import ZarkovCommand
from ingest.transport.server_keys import OWN, SUFFIX, load_server_keys, make_client_keys, make_server_keys
from mapreduce.wire.curve import make_keys, write_keys

NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class Command(ZarkovCommand):
    help = (
        "Make CURVE keys, which encrypt sockets and shut out everybody else: `engine` makes one pair that router, "
        "workers and clients of the map-reduce engine share; `ingest` the ingester's, and a file for Zarkov's own "
        "processes; `--client NAME` a file for a producer. Copy the files to the machines that need them, and restart "
        "the processes."
    )
    example = "manage.py curvekeys ingest --client shop"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "which", nargs="?", choices=["engine", "ingest"], help="whose keys (default: both, those that are missing)"
        )
        parser.add_argument(
            "--client", metavar="NAME", help="make a file for a producer, which the ingester then accepts"
        )
        parser.add_argument("--force", action="store_true", help="replace existing keys")

    def perform(self, options: dict[str, Any]) -> None:
        self._keys = settings.ZARKOV.folder.keys
        which, force = options["which"], options["force"]
        if options["client"] is not None:
            if which == "engine":
                raise CommandError("--client: the engine's keys are one pair that all share; use `curvekeys ingest`")
            self._write_client_keys(options["client"], replace=force)
            return
        paths = {"engine": self._keys / "zmr.curve", "ingest": self._keys / "ingest.curve"}
        write = {"engine": self._write_engine_keys, "ingest": self._write_ingest_keys}
        wanted = [which] if which else [name for name, path in paths.items() if force or not path.exists()]
        for name in wanted or ["engine"]:  # if all exist, the error names --force
            write[name](paths[name], replace=force)

    def _write_engine_keys(self, path: Any, *, replace: bool) -> None:
        write_keys(path, make_keys(), replace=replace)
        self.stdout.write(f"wrote {path}")

    def _write_ingest_keys(self, path: Any, *, replace: bool) -> None:
        if path.exists() and not replace:
            raise CommandError(f"{path} exists already: every producer would be locked out (--force replaces it)")
        folder = settings.ZARKOV.folder.client_keys
        keys = make_server_keys(path, folder)
        self.stdout.write(f"wrote {path}")
        for name in sorted({OWN} | {found.stem for found in folder.glob(f"*{SUFFIX}")}):
            self.stdout.write(f"wrote {make_client_keys(keys, name)}")

    def _write_client_keys(self, name: str, *, replace: bool) -> None:
        folder = settings.ZARKOV.folder.client_keys
        if not name or not set(name) <= NAME_CHARS or name.startswith("."):
            raise CommandError(f"--client {name!r} is not allowed: use letters, digits, dots, dashes and underscores")
        keys = load_server_keys(self._keys / "ingest.curve", folder)
        if keys is None:
            raise CommandError("the ingester has no keys yet: run `manage.py curvekeys ingest` first")
        if (folder / f"{name}{SUFFIX}").exists() and not replace:
            raise CommandError(f"{name} has keys already: new ones would lock it out (--force replaces them)")
        self.stdout.write(f"wrote {make_client_keys(keys, name)}")
