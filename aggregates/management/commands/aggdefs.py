"""`aggdefs export|import FILE`: keep aggregate definitions in a file, for version control."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aggregates import services
from ingest.management.command import ZarkovCommand


class Command(ZarkovCommand):
    help = "Write all aggregate definitions to a YAML file, or create and change them from a file. Can be repeated."
    example = "manage.py aggdefs export aggregates.yaml"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["export", "import"])
        parser.add_argument("file", help="the file; - is standard output or input")

    def perform(self, options: dict[str, Any]) -> int | None:
        name = options["file"]
        try:
            if options["what"] == "export":
                text = services.export_definitions()
                if name == "-":
                    self.stdout.write(text, ending="")
                else:
                    Path(name).write_text(text, encoding="utf-8")
                return None
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{name}: {error}") from None
        changed = services.import_definitions(text)
        self.stdout.write(f"created or changed: {', '.join(changed)}" if changed else "nothing to change")
        return None
