"""`token NAME`: create an access token and print it once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from aggregates.web.auth.token_creation import make_token
from ingest.management.command import ZarkovCommand
from ingest.number_text import whole_number


class Command(ZarkovCommand):
    help = "Make a token and print it. It is shown only now; only its hash is kept."
    example = "manage.py token shop --scope ingest"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the token is for; a user of this name owns it")
        parser.add_argument("--scope", default="read", help="ingest, read, operate, separated by commas")
        parser.add_argument("--collections", default="", help="aggregates it may read, such as commits_by_day,shop.*")
        parser.add_argument("--days", type=whole_number, default=None, help="days until it expires; by default never")

    def perform(self, options: dict[str, Any]) -> None:
        lists = (options[key].split(",") for key in ("scope", "collections"))
        scopes, collections = ([part.strip() for part in parts if part.strip()] for parts in lists)
        _, text = make_token(options["name"], scopes, collections=collections, days=options["days"])
        self.stdout.write(text)
