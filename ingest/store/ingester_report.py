"""What all ingesters together received and what became of it, as MongoDB has it; and who holds up the watermark."""

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
MISSING_AFTER_S = 20.0  # an ingester that has not reported for so long is not there
GONE_AFTER_S = 86_400.0  # one that has not reported for so long is gone for good, as with a lost disk: no news any more
SILENT_AFTER_S = 10.0  # one whose sockets were not looked at for so long hangs


@dataclass(frozen=True, slots=True)
class IngesterReport:
    """What is known of one journal that is not drained: counts from verdicts, the rest as its ingester said it last."""

    journal: str
    host: str
    pid: int
    seen: dt.datetime  # when it reported last, by MongoDB's clock
    age_s: float  # of that report
    stored: int  # this and the next two: verdicts of this journal, whoever committed it
    duplicates: int
    quarantined: int
    pending: int  # events and refusals that were in the journal when it reported, and have no verdict now
    journal_bytes: int
    oldest_pending_s: float  # age of the oldest of them, when it reported if it runs, now if it is gone; 0 = none
    full: bool  # it does not read its sockets
    received_per_s: float  # between its last two reports
    stored_per_s: float  # the same; events of journals that it adopted included
    alive: bool
    silent_s: float  # for how long it had not looked at its sockets when it reported
    waits_for: str  # what it tries again, as it said it; empty when nothing holds it up
    holds: tuple[str, ...]  # journals that it takes to MongoDB, its own and those it adopted

    @property
    def received(self) -> int:
        """Everything that reached the journal."""
        return self.stored + self.duplicates + self.quarantined + self.pending


@dataclass(frozen=True, slots=True)
class Blocker:
    """An open block, and whether anybody is there to settle it."""

    block: BlockId
    first: int
    count: int
    age_s: float
    host: str  # of the ingester that has the journal, or made it; empty when it never reported
    alive: bool  # an ingester that runs has the journal
    pid: int = 0  # of that ingester
    waits_for: str = ""  # what it tries again


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Counts over all ingesters since the store was made. `received` is the sum of the others, always."""

    stored: int
    duplicates: int
    quarantined: int
    pending: int
    ingesters: tuple[IngesterReport, ...]
    blockers: tuple[Blocker, ...]  # lowest id first: the first one holds the watermark
    watermark: int

    @property
    def received(self) -> int:
        """Everything that reached a journal."""
        return self.stored + self.duplicates + self.quarantined + self.pending

    @property
    def journal_bytes(self) -> int:
        """Bytes in the journals of all ingesters."""
        return sum(report.journal_bytes for report in self.ingesters)

    @property
    def oldest_pending_s(self) -> float:
        """Age of the oldest event that waits anywhere."""
        return max((report.oldest_pending_s for report in self.ingesters), default=0.0)


def ingesters(store: Store) -> list[IngesterReport]:
    """One report per journal that is not drained, of ingesters that run and of those gone, oldest report first.

    Raises `StoreUnpreparedError` when there is no store.
    """
    return list(summarize(store).ingesters)


def summarize(store: Store) -> StoreReport:
    """The counts as of now. Raises `StoreUnpreparedError` when there is no store."""
    database, now = store.database(), store.now()
    try:
        with database.client.start_session(snapshot=True) as session:  # so that nothing is folded in between
            journals, uncompacted = _documents(database, session)
    except ConfigurationError:
        # A connection made while the server could be neither written to nor read has no sessions. Better sums that may
        # be off for a moment, should something be folded in between, than none.
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
    """Reports by journal, and sums of the verdicts that are not folded into them."""
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
    """What was received when the ingester reported, less what has a verdict now, which may be younger."""
    if "received" not in document:
        return int(document["pending"])
    return max(0, int(document["received"]) - sum(counts.values()))


def _blocker(block: Document, reports: tuple[IngesterReport, ...], now: dt.datetime) -> Blocker:
    having = (each for each in reports if each.alive and block["j"] in each.holds)
    made = (each for each in reports if each.journal == block["j"])
    report = next(having, None) or next(made, None)
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
    """What to tell an operator about a block that is open for long, and what releasing it would cost."""
    journal, number = blocker.block
    where = f" on {blocker.host}" if blocker.host else ""
    if blocker.alive:
        said = f"it says: {blocker.waits_for}" if blocker.waits_for else "it has said nothing: see its log"
        return (
            f"block {number} of journal {journal} is open for {blocker.age_s:.0f} s and holds the watermark below id "
            f"{blocker.first}. The ingester{where}, process {blocker.pid}, has this journal and tries again; {said}"
        )
    return (
        f"block {number} of journal {journal} is open for {blocker.age_s:.0f} s and holds the watermark below id "
        f"{blocker.first}. Start an ingester{where} that has this journal in its journal folder. If that disk is gone "
        f"for good, release the block: its {blocker.count} events are lost, unless the journal comes back, which then "
        "stores them under new ids"
    )


def obstacles(summary: StoreReport) -> list[str]:
    """What to tell an operator about ingesters that do not do their work."""
    adopted = {journal for report in summary.ingesters if report.alive for journal in report.holds}
    found = []
    for report in summary.ingesters:
        who = f"the ingester on {report.host}, process {report.pid},"
        if report.full:
            found.append(
                f"the journal of the ingester on {report.host} (process {report.pid}) is full: MongoDB does not keep "
                "up, or refuses; see its log"
            )
        if report.alive and report.silent_s > SILENT_AFTER_S:
            found.append(f"{who} has not looked at its sockets for {report.silent_s:.0f} s: restart it")
        if report.alive and report.waits_for:
            found.append(f"{who} cannot store events, which wait in its journal: {report.waits_for}")
        if not report.alive and report.journal not in adopted and report.age_s < GONE_AFTER_S:
            found.append(
                f"{who} has not reported for {report.age_s:.0f} s: it hangs, or ended and nobody took over journal "
                f"{report.journal}. Restart it, or start an ingester where that journal is"
            )
    return found


def report(store: Store, journal: str, values: Document) -> None:
    """Write what an ingester says of its journal: what `IngesterReport` has of it, without counts of verdicts."""
    store.database()[JOURNAL].update_one({"_id": journal}, [{"$set": values | {"seen": "$$NOW"}}], upsert=True)
