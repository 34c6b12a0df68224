"""`doctor`: report what is wrong, what it means, and what to do; release lost blocks."""

from __future__ import annotations

import contextlib
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from aggregates.models import AggDef
from aggregates.task_modules import task_modules
from ingest.client.health_probe import receiver_fault
from ingest.management.command import ZarkovCommand
from ingest.store.block_release import revoke
from ingest.store.ingester_report import StoreReport, advice, problems, summarize
from ingest.store.store import Store, connect
from mapreduce.engine import open_engine
from mapreduce.engine.engine_status import EngineStatus, engine_summary
from mapreduce.scheduler.worker_health import BACKING_OFF, QUARANTINED

BLOCKER_AGE_S = 10.0  # a younger open block is normal work in progress
PING_S = 2.0


class Command(ZarkovCommand):
    help = "Report what became of received events, what holds up the watermark, and which aggregates wait or fail."
    example = "manage.py doctor --release 2d1f...:17"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--release",
            metavar="JOURNAL:NUMBER",
            help="release a reserved block whose disk is gone for good: its events are lost unless the journal returns",
        )

    def perform(self, options: dict[str, Any]) -> int:
        config = settings.ZARKOV
        for warning in settings.ZARKOV_WARNINGS:
            self.stderr.write(f"warning: {warning}")
        store = connect(config.mongo_address, config.mongo_database)
        with contextlib.closing(store.connection):
            if options["release"]:
                return self._release(store, options["release"])
            return self._examine(summarize(store), engine_summary(store.database()))

    def _examine(self, summary: StoreReport, engine: EngineStatus) -> int:
        self._counts(summary)
        found = [advice(blocker) for blocker in summary.blockers if blocker.age_s > BLOCKER_AGE_S]
        found += problems(summary) + self._receiver() + self._router() + self._workers(engine)
        found += self._aggregates()
        for sentence in found:
            self.stdout.write(f"! {sentence}")
        if not found:
            self.stdout.write("no problems found")
        return 1 if found else 0

    def _counts(self, summary: StoreReport) -> None:
        self.stdout.write(
            f"received {summary.received:,} = stored {summary.stored:,} + duplicates {summary.duplicates:,} + "
            f"quarantined {summary.quarantined:,} + pending {summary.pending:,}"
        )
        self.stdout.write(
            f"watermark {summary.watermark:,}; journals hold {summary.journal_bytes:,} bytes, the oldest pending event "
            f"is {summary.oldest_pending_s:.0f} s old"
        )
        for report in summary.ingesters:
            state = "runs" if report.alive else f"has not reported for {report.age_s:.0f} s"
            self.stdout.write(
                f"ingester on {report.host}, process {report.pid}, journal {report.journal}: {state}; received "
                f"{report.received:,} ({report.received_per_s:,.0f}/s), pending {report.pending:,}, stores "
                f"{report.stored_per_s:,.0f}/s, journal {report.journal_bytes:,} bytes{', full' if report.full else ''}"
            )

    def _receiver(self) -> list[str]:
        config = settings.ZARKOV
        address = config.running_address("ack_bind_address")
        fault = receiver_fault(address, config.client_keys(), PING_S) if address else ""
        return [f"{fault} (ack_bind_address)"] if fault else []

    def _router(self) -> list[str]:
        config = settings.ZARKOV
        if config.zmr.engine != "zmq":
            return []
        with open_engine(config.engine_settings(task_modules())) as engine:
            if engine.ping(PING_S):
                return []
        return [f"no router answers at {config.zmr.req_uri or config.zmr.req_bind} (zmr.req_uri): start `runrouter`"]

    def _workers(self, engine: EngineStatus) -> list[str]:
        for worker in engine.in_state(BACKING_OFF):
            self.stdout.write(f"worker {worker.name} backs off after {worker.failures} failures: {worker.reason}")
        return [
            f"worker {worker.name} is quarantined, as it has failed {worker.failures} times in a row since "
            f"{worker.since:%Y-%m-%d %H:%M:%S} UTC: {worker.reason}: repair it; it is tried again once a minute"
            for worker in engine.in_state(QUARANTINED)
        ]

    def _aggregates(self) -> list[str]:
        waiting = AggDef.objects.filter(enabled=True).exclude(state__in=["", "new", "ok"])
        return [f"aggregate {a.name} is {a.state}: {a.last_error or a.full_due}" for a in waiting.order_by("name")]

    def _release(self, store: Store, name: str) -> int:
        journal, _, number = name.rpartition(":")
        if not journal or not (number.isascii() and number.isdigit()):
            raise CommandError(f"--release {name} is not a block: use JOURNAL:NUMBER as `manage.py doctor` names it")
        block = (journal, int(number))
        if held := next((each for each in summarize(store).blockers if each.block == block and each.alive), None):
            raise CommandError(
                f"--release {name}: the ingester on {held.host}, process {held.pid}, runs and has this journal: it "
                "would reserve the events again. To release them anyway, stop it first"
            )
        if revoke(store, block):
            self.stdout.write(f"block {number} of journal {journal} is released; its ids stay unused")
        else:
            self.stdout.write(f"block {number} of journal {journal} was committed meanwhile: nothing is lost")
        return 0
