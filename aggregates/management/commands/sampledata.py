"""`sampledata load|remove`: load the sample, or remove it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from pymongo import MongoClient
from pymongo.database import Database
from tqdm import tqdm

from aggregates.sample import load
from aggregates.sample.content import EVENT_COUNT
from aggregates.sample.load import Progress
from ingest.management.command import ZarkovCommand, name_program
from ingest.management.stop_signal import stop_on_signals
from ingest.store.store import connect

PHASE_WORDS = {"send": "sent", "store": "stored", "aggregate": "aggregated"}


class Command(ZarkovCommand):
    help = "Load the sample (real commits of three projects) through the running ingester, or remove it again."
    example = "manage.py sampledata load"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["load", "remove"])

    def perform(self, options: dict[str, Any]) -> int:
        config = settings.ZARKOV
        client: MongoClient[dict[str, Any]] = MongoClient(config.mongo_address(), w="majority", journal=True)
        with client:
            database = client[config.mongo_database]
            return self._load(config, database) if options["action"] == "load" else self._remove(database)

    def _load(self, config: Any, database: Database[dict[str, Any]]) -> int:
        before = load.stored(database)
        self._show(load.load(config.connect_address("ack_bind_address"), database, config.client_keys()))
        store = connect(config.mongo_address, config.mongo_database)
        with contextlib.closing(store.connection), stop_on_signals() as stop:
            self._show(load.wait_for_aggregates(store.watermark().through, stop.is_set))
        new = EVENT_COUNT - before
        self.stdout.write(f"sample loaded: {EVENT_COUNT:,} events, {new:,} of them new")
        return 0

    def _show(self, progresses: Iterable[Progress]) -> None:
        for phase, group in itertools.groupby(progresses, key=lambda progress: progress.phase):
            with tqdm(desc=PHASE_WORDS[phase], unit="", disable=None) as bar:
                for progress in group:
                    bar.total = progress.total
                    bar.update(progress.done - bar.n)

    def _remove(self, database: Database[dict[str, Any]]) -> int:
        removed, others = load.remove(database)
        self.stdout.write(f"sample removed: {removed:,} events removed")
        if others:
            self.stdout.write(
                f"these aggregates of yours had counted them and need a full run: {', '.join(others)} "
                + name_program(f"(manage.py aggregate {others[0]} --full)")
            )
        return 0
