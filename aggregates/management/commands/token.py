"""`manage.py token`: makes a token for a program and prints it once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from aggregates.web.auth.tokens import make_token
from ingest.management.command import ZarkovCommand


class Command(ZarkovCommand):
    """Arguments to a call of `make_token`."""

    help = "Make a token and print it. It is shown this once; only its hash is kept."
    example = "manage.py token shop --scope ingest"

    def add_arguments(self, parser: CommandParser) -> None:
        """Name, scope and limits."""
        parser.add_argument("name", help="what the token is for; a user of this name owns it")
        parser.add_argument("--scope", default="read", help="ingest, read, operate, with commas between them")
        parser.add_argument("--collections", default="", help="aggregates it may read, such as commits_by_day,shop.*")
        parser.add_argument("--days", type=int, default=None, help="days until it expires; by default never")

    def perform(self, options: dict[str, Any]) -> None:
        """Print the token and nothing else."""
        scopes, collections = ([part.strip() for part in options[key].split(",") if part.strip()] for key in _LISTS)
        _, text = make_token(options["name"], scopes, collections=collections, days=options["days"])
        self.stdout.write(text)


_LISTS = ("scope", "collections")
