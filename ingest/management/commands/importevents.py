"""`importevents DB COLLECTION`: send the documents of a MongoDB collection to the ingester as events."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from pymongo import MongoClient
from tqdm import tqdm

from ingest.client import AcknowledgedClient
from ingest.exceptions import DeliveryError
from ingest.load import collection_import
from ingest.load.loader import Bookmark, LoadResult, send_lines
from ingest.management.command import ZarkovCommand, add_keys_argument, sender_keys


class Command(ZarkovCommand):
    help = (
        "Send the documents of another collection to the ingester as events, such as those of the Zarkov of 2011. The "
        "collection is only read. Each event gets an id made of the document's _id, so that none is stored twice; an "
        "interrupted import resumes where it was."
    )
    example = "manage.py importevents zarkov_2011 event"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("database", metavar="DB")
        parser.add_argument("collection", metavar="COLLECTION")
        parser.add_argument("--value", action="store_true", help="the event is the document's field `value`")
        parser.add_argument("--uri", help="another MongoDB that has the collection (default: the configured one)")
        parser.add_argument("--address", help="acknowledged socket (default: the configured ingester's)")
        add_keys_argument(parser)
        parser.add_argument("--from-start", action="store_true", help="forget the position of an interrupted import")

    def perform(self, options: dict[str, Any]) -> int:
        """Import the collection. Return 1 if an event was refused."""
        config = settings.ZARKOV
        name = f"{options['database']}.{options['collection']}"
        if options["database"] == config.mongo_database and options["collection"].split(".")[0] == "event":
            raise CommandError(f"{name} holds Zarkov's own events: name another collection")
        bookmark = Bookmark(config.folder.run / "load", name, [options["uri"], options["value"]])
        if options["from_start"]:
            bookmark.remove()
        result, keys = LoadResult(), [""]
        client: MongoClient[dict[str, Any]] = MongoClient(options["uri"] or config.mongo_address(), tz_aware=True)
        address = options["address"] or config.connect_address("ack_bind_address")
        with client, AcknowledgedClient(address, keys=sender_keys(options["keys"])) as sender:
            collection = client[options["database"]][options["collection"]]
            count = collection.estimated_document_count()
            if not count:
                raise CommandError(f"{name} has no documents: is the name right?")
            lines = collection_import.read(
                collection, after=bookmark.read(), value=options["value"], on_key=lambda key: keys.__setitem__(0, key)
            )
            with tqdm(total=count, unit=" events", disable=None if options["verbosity"] else True) as progress:
                try:
                    send_lines(
                        sender, name, lines, result,
                        save_position=lambda number: bookmark.write(keys[0]), on_progress=progress.update,
                    )  # fmt: skip
                except DeliveryError as error:
                    raise CommandError(
                        f"{error}. {result.accepted} events were accepted; the same command resumes from there"
                    ) from None
        bookmark.remove()
        for example in result.examples:
            self.stderr.write(example)
        self.stdout.write(f"{result.accepted} events accepted, {result.rejected} refused")
        return 1 if result.rejected else 0
