"""Sum up from MongoDB what all ingesters received and what became of it, and find what holds up the watermark."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import ConfigurationError

from ingest.store.connection import Document
from ingest.store.store import JOURNAL, VERDICT, BlockId, Store
from ingest.store.verdict_compaction import COUNTS

REPORT_EVERY_S = 5.0
MISSING_AFTER_S = 20.0  # without a report for this long, an ingester counts as not running
GONE_AFTER_S = 86_400.0  # without a report for this long, it is gone for good and no longer mentioned
SILENT_AFTER_S = 10.0  # if it has not read its sockets for this long, it hangs


@dataclass(frozen=True, slots=True)
class IngesterReport:
    """The state of one journal that is not drained: counts from verdicts, the rest from its ingester's last report."""

    journal: str
    host: str
    pid: int
    seen: dt.datetime  # time of the last report, by MongoDB's clock
    age_s: float  # of that report
    stored: int  # like the next two, from verdicts of this journal, whichever ingester committed the block
    duplicates: int
    quarantined: int
    pending: int  # events and refusals that were in the journal at the last report and have no verdict yet
    journal_bytes: int
    oldest_pending_s: float  # age of the oldest of these, at the last report if alive, else now; 0 = none
    full: bool  # the journal is full: the ingester does not read its sockets
    received_per_s: float  # between the last two reports
    stored_per_s: float  # the same, events from adopted journals included
    alive: bool  # it has reported within MISSING_AFTER_S
    silent_s: float  # how long it had not read its sockets at the last report
    waits_for: str  # the error that it keeps retrying after; empty if none
    holds: tuple[str, ...]  # journals that it commits: its own and the adopted ones

    @property
    def received(self) -> int:
        """Return the number of events and refusals that reached the journal."""
        return self.stored + self.duplicates + self.quarantined + self.pending


@dataclass(frozen=True, slots=True)
class Blocker:
    """An open block and the ingester that has to settle it."""

    block: BlockId
    first: int  # its lowest id
    count: int  # reserved ids
    age_s: float  # since the reservation
    host: str  # of the ingester that holds the journal, else of the one that wrote it; empty if that never reported
    alive: bool  # a running ingester holds the journal
    pid: int = 0  # of that ingester; 0 if it never reported
    waits_for: str = ""  # the error that it keeps retrying after; empty if none


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Counts over all ingesters since the store was created. `received` is always the sum of the others."""

    stored: int
    duplicates: int
    quarantined: int
    pending: int
    ingesters: tuple[IngesterReport, ...]  # one per journal that is not drained, oldest report first
    blockers: tuple[Blocker, ...]  # lowest id first: the first one holds up the watermark
    watermark: int

    @property
    def received(self) -> int:
        """Return the number of events and refusals that reached a journal."""
        return self.stored + self.duplicates + self.quarantined + self.pending

    @property
    def journal_bytes(self) -> int:
        return sum(report.journal_bytes for report in self.ingesters)

    @property
    def oldest_pending_s(self) -> float:
        """Return the age of the oldest pending event."""
        return max((report.oldest_pending_s for report in self.ingesters), default=0.0)


def summarize(store: Store) -> StoreReport:
    """Return the current counts. Raise `StoreUnpreparedError` if there is no store."""
    database, now = store.database(), store.now()
    try:
        with database.client.start_session(snapshot=True) as session:  # so that no compaction comes between the reads
            journals, uncompacted = _documents(database, session)
    except ConfigurationError:
        # A connection made while the server was neither readable nor writable has no sessions. Sums that a compaction
        # between the reads makes wrong for a moment are better than none.
        journals, uncompacted = _documents(database, None)
    counts = {journal: _counts(journals.get(journal), uncompacted.get(journal)) for journal in journals | uncompacted}
    sums = {name: sum(counted[name] for counted in counts.values()) for name in COUNTS}
    known = sorted((d for d in journals.values() if "seen" in d and not d.get("retired")), key=lambda d: d["seen"])
    reports = tuple(_report(document, counts[document["_id"]], now) for document in known)
    return StoreReport(
        stored=sums["stored"],
        duplicates=sums["duplicates"],
        quarantined=sums["quarantined"],
        pending=sum(report.pending for report in reports),
        ingesters=reports,
        blockers=tuple(_blocker(block, reports, now) for block in store.open_blocks()),
        watermark=store.watermark().through,
    )


def _documents(
    database: Database[Document], session: ClientSession | None
) -> tuple[dict[str, Document], dict[str, Document]]:
    """Return the documents of all journals, and per journal the sums of verdicts that are not compacted into them."""
    journals = {document["_id"]: document for document in database[JOURNAL].find(session=session)}
    uncompacted = {document["_id"]: document for document in database[VERDICT].aggregate(_UNCOMPACTED, session=session)}
    return journals, uncompacted


_UNCOMPACTED: list[Document] = [
    {"$lookup": {"from": JOURNAL, "localField": "_id.j", "foreignField": "_id", "as": "journal"}},
    {"$match": {"$expr": {"$gt": ["$_id.s", {"$ifNull": [{"$first": "$journal.folded"}, 0]}]}}},
    {"$group": {"_id": "$_id.j"} | {name: {"$sum": f"${name}"} for name in COUNTS}},
]


def _counts(*documents: Document | None) -> dict[str, int]:
    return {name: sum(int(document.get(name, 0)) for document in documents if document) for name in COUNTS}


def _report(document: Document, counts: dict[str, int], now: dt.datetime) -> IngesterReport:
    age_s = max(0.0, (now - document["seen"]).total_seconds())
    pending, oldest_s, alive = _pending(document, counts), float(document["oldest_pending_s"]), age_s < MISSING_AFTER_S
    return IngesterReport(
        journal=document["_id"],
        host=document["host"],
        pid=document["pid"],
        seen=document["seen"],
        age_s=age_s,
        **counts,
        pending=pending,
        journal_bytes=document["bytes"],
        oldest_pending_s=oldest_s if alive or not pending else oldest_s + age_s,
        full=document["full"],
        received_per_s=document.get("received_per_s", 0.0),
        stored_per_s=document.get("stored_per_s", 0.0),
        alive=alive,
        silent_s=document.get("silent_s", 0.0),
        waits_for=document.get("waits_for", ""),
        holds=tuple(document.get("holds", (document["_id"],))),
    )


def _pending(document: Document, counts: dict[str, int]) -> int:
    # Verdicts can be newer than the report, so the difference can be negative.
    if "received" not in document:
        return int(document["pending"])
    return max(0, int(document["received"]) - sum(counts.values()))


def _blocker(block: Document, reports: tuple[IngesterReport, ...], now: dt.datetime) -> Blocker:
    holders = (each for each in reports if each.alive and block["j"] in each.holds)
    writers = (each for each in reports if each.journal == block["j"])
    report = next(holders, None) or next(writers, None)
    return Blocker(
        block=(block["j"], int(block["s"])),
        first=int(block["first"]),
        count=int(block["n"]),
        age_s=(now - block["at"]).total_seconds(),
        host=report.host if report else "",
        alive=bool(report and report.alive),
        pid=report.pid if report else 0,
        waits_for=report.waits_for if report and report.alive else "",
    )


def advice(blocker: Blocker) -> str:
    """Return advice for an operator about a block that has been open for long, and the cost of releasing it."""
    journal, number = blocker.block
    open_block = (
        f"block {number} of journal {journal} has been open for {blocker.age_s:.0f} s and holds the watermark below "
        f"id {blocker.first}"
    )
    where = f" on {blocker.host}" if blocker.host else ""
    if blocker.alive:
        reason = f"it reports: {blocker.waits_for}" if blocker.waits_for else "it reports no reason: see its log"
        return f"{open_block}. The ingester{where}, process {blocker.pid}, has this journal and keeps trying; {reason}"
    return (
        f"{open_block}. Start an ingester{where} that has this journal in its journal folder. If that disk is gone for "
        f"good, release the block: its {blocker.count} events are lost unless the journal comes back, in which case "
        "they are stored under new ids"
    )


def problems(summary: StoreReport) -> list[str]:
    """Return messages for an operator about ingesters that do not work properly."""
    adopted = {journal for report in summary.ingesters if report.alive for journal in report.holds}
    found = []
    for report in summary.ingesters:
        ingester = f"the ingester on {report.host}, process {report.pid},"
        if report.full:
            found.append(
                f"the journal of the ingester on {report.host} (process {report.pid}) is full: MongoDB does not keep "
                "up, or refuses events; see its log"
            )
        if report.alive and report.silent_s > SILENT_AFTER_S:
            found.append(f"{ingester} has not read its sockets for {report.silent_s:.0f} s: restart it")
        if report.alive and report.waits_for:
            found.append(f"{ingester} cannot store events, which wait in its journal: {report.waits_for}")
        if not report.alive and report.journal not in adopted and report.age_s < GONE_AFTER_S:
            found.append(
                f"{ingester} has not reported for {report.age_s:.0f} s: it hangs, or it ended and no other took over "
                f"journal {report.journal}. Restart it, or start an ingester on the machine that has that journal"
            )
    return found


def report(store: Store, journal: str, values: Document) -> None:
    """Write an ingester's report on its journal: the fields of `IngesterReport` without the counts from verdicts."""
    store.database()[JOURNAL].update_one({"_id": journal}, [{"$set": values | {"seen": "$$NOW"}}], upsert=True)
