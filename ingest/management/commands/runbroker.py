"""`runbroker`: forward measurements from publishers to backends."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ingest.management.command import ZarkovCommand
from ingest.metrics.broker import Broker
from ingest.metrics.wire import BACKENDS, PUBLISHERS


class Command(ZarkovCommand):
    help = (
        "Receive measurements from publishers on metrics.port and forward them to the backends on the next port. "
        "Any ZeroMQ PUB and SUB sockets can connect there."
    )
    example = "manage.py runbroker --set metrics.port=5550"
    long_running = True
    binds = True

    def perform(self, options: dict[str, Any]) -> None:
        config = settings.ZARKOV
        sockets = config.sockets()
        broker = Broker(sockets[PUBLISHERS], sockets[BACKENDS], measure_s=config.metrics.own_interval_s)
        broker.start()
        addresses = dict(broker.addresses)
        config.folder.record_addresses(addresses)
        self.stdout.write("forwarding metrics: " + ", ".join(f"{k} {a}" for k, a in addresses.items()))
        self.stdout.flush()
        try:
            broker.run(self.stop)
        finally:
            config.folder.remove_addresses(addresses)
            broker.close()
        self.stdout.write(f"{broker.totals.messages} messages passed")
