"""`runmongo`: run the local mongod of this home folder in the foreground."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ingest.management.command import ZarkovCommand
from zarkov_site.exceptions import MongodError
from zarkov_site.processes.mongod import LocalMongod


class Command(ZarkovCommand):
    help = "Run the local mongod (a one-member replica set on loopback) until Ctrl-C; `up` does this by itself."
    example = "manage.py runmongo"
    long_running = True

    def perform(self, options: dict[str, Any]) -> int:
        mongod = LocalMongod(settings.ZARKOV.folder)
        mongod.start()
        self.stdout.write(f"mongod is ready; its connection string is in {settings.ZARKOV.folder.mongo / 'uri'}")
        self.stdout.flush()
        try:
            while not self.stop.wait(0.5):
                if (code := mongod.process.poll()) is not None:
                    raise MongodError(f"mongod ended with code {code}; see {settings.ZARKOV.folder.mongo}/mongod.log")
        finally:
            mongod.stop()
        return 0
