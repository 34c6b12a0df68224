"""`loadevents FILE`: send the events of files to the ingester, and resume an interrupted load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError, LoadError
from ingest.load.column import parse_mapping
from ingest.load.csv_rows import read_delimiter
from ingest.load.file_format import FileOptions
from ingest.load.loader import LoadResult, file_bookmark, load_file
from ingest.management.command import ZarkovCommand, add_keys_argument, printable, sender_keys


class Command(ZarkovCommand):
    help = (
        "Send the events of files to the ingester and wait until they are on its disk: JSON lines or a JSON list, BSON "
        "dumps (*.bson, as `rotate` makes them) and CSV (*.csv, *.tsv, columns named as fields or given by --map); "
        "each also packed with gzip, bzip2 or xz. An interrupted load resumes where it was if the same command is run "
        "again. Events without `id` get one made of the file's content and their line, so that none is stored twice."
    )
    example = "manage.py loadevents visits.csv.gz --map type==visit --map timestamp=time --map context.page=url"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
        parser.add_argument("--address", help="acknowledged socket (default: the configured ingester's)")
        add_keys_argument(parser)
        parser.add_argument(
            "--map", action="append", default=[], metavar="FIELD=COLUMN",
            help="CSV: the source of a field; FIELD=COLUMN:int (float, json, or seconds, ms, us, ns since 1970) "
            "converts it, FIELD==TEXT is the same for all rows",
        )  # fmt: skip
        parser.add_argument(
            "--delimiter", metavar="CHARACTER",
            help="CSV: what stands between cells, or tab (default: comma, semicolon, tab or |, as the header has it)",
        )  # fmt: skip
        parser.add_argument(
            "--plain-json", action="store_true",
            help='JSON: keep documents such as {"$numberLong": "5"} as written (default: read as numbers, dates ...)',
        )  # fmt: skip
        parser.add_argument("--strict", action="store_true", help="stop at the first bad line (default: count it)")
        parser.add_argument("--from-start", action="store_true", help="forget the position of an interrupted load")

    def perform(self, options: dict[str, Any]) -> int:
        """Load file after file. Return 1 if an event was refused; raise if a file could not be read (to its end)."""
        address = options["address"] or settings.ZARKOV.connect_address("ack_bind_address")
        how = FileOptions(
            parse_mapping(options["map"]), read_delimiter(options["delimiter"]) if options["delimiter"] else "",
            extended=not options["plain_json"],
        )  # fmt: skip
        folder = settings.ZARKOV.folder.run / "load"
        result, unread = LoadResult(), list[LoadError]()
        with (
            AcknowledgedClient(address, keys=sender_keys(options["keys"])) as client,
            tqdm(unit=" events", disable=None if options["verbosity"] else True) as progress,
        ):
            for path in options["files"]:
                bookmark = file_bookmark(folder, path, how)
                if bookmark and options["from_start"]:
                    bookmark.remove()
                try:
                    load_file(
                        client, path, result, options=how, bookmark=bookmark, strict=options["strict"],
                        on_progress=progress.update,
                    )  # fmt: skip
                except DeliveryError as error:
                    raise CommandError(
                        f"{error}. {result.accepted} events were accepted; the same command resumes with {path}"
                    ) from None
                except LoadError as error:
                    if options["strict"]:
                        raise
                    unread.append(error)
        self._show_refused(result)
        counts = f"{result.accepted} events accepted, {result.rejected} refused"
        if unread:
            for failure in unread[:-1]:
                self.stderr.write(printable(str(failure)))
            raise CommandError(f"{unread[-1]} ({counts})")
        self.stdout.write(counts)
        return 1 if result.rejected else 0

    def _show_refused(self, result: LoadResult) -> None:
        for example in result.examples:
            self.stderr.write(printable(example))
        if result.rejected > len(result.examples):
            self.stderr.write(f"... and {result.rejected - len(result.examples)} more")
