"""`runaggregator`: keep realtime aggregates current until it is stopped."""

from __future__ import annotations

import logging
import os
from typing import Any

from django.conf import settings

from aggregates.process_connections import process_connections
from aggregates.realtime.aggregator import Aggregator
from ingest.management.command import ZarkovCommand, measure_own

log = logging.getLogger(__name__)


class Command(ZarkovCommand):
    help = "Keep realtime aggregates current: follow the ingester's notices and refresh the aggregates they concern."
    example = "manage.py runaggregator"
    long_running = True

    def perform(self, options: dict[str, Any]) -> int | None:
        measure_own("aggregator")
        held = process_connections()
        aggregator = Aggregator(held, settings.ZARKOV)
        try:
            aggregator.run(self.stop.is_set)
        finally:
            ended = aggregator.stop()
            held.close()
        if not ended:
            log.info("refresh still running at exit; the next start resumes it")
            logging.shutdown()
            os._exit(0)  # a normal exit would wait for its thread
        return None
