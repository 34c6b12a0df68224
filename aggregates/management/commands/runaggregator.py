"""`runaggregator`: keeps realtime aggregates current until it is stopped."""

from __future__ import annotations

import logging
import os
from typing import Any

from django.conf import settings

from aggregates.realtime.aggregator import Aggregator
from aggregates.resource import resources
from ingest.management.command import ZarkovCommand, measure_own

log = logging.getLogger(__name__)


class Command(ZarkovCommand):
    """The realtime service."""

    help = "Keeps realtime aggregates current: follows the ingester's notices and refreshes what they concern."
    example = "manage.py runaggregator"
    long_running = True

    def perform(self, options: dict[str, Any]) -> int | None:
        """Work until SIGTERM or SIGINT."""
        measure_own("aggregator")
        held = resources()
        aggregator = Aggregator(held, settings.ZARKOV)
        try:
            aggregator.run(self.stop.is_set)
        finally:
            ended = aggregator.stop()
            held.close()
        if not ended:
            log.warning("a refresh that has not ended is left to the next start")
            logging.shutdown()
            os._exit(0)  # Python would wait for its thread
        return None
