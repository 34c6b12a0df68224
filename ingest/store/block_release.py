"""Release a reserved block whose events will not come: its ids stay unused, and the watermark can pass it."""

from __future__ import annotations

from pymongo.errors import DuplicateKeyError

from ingest.exceptions import IngestError
from ingest.store.store import BlockId, Store, verdict_key


def revoke(store: Store, block: BlockId) -> bool:
    """Give `block` the verdict `revoked` and close it; return False if it was committed in the meantime.

    A commit still under way then fails because of the verdict and gets new ids, so that nothing is stored under ids
    that readers have passed. The block's session is killed first: its ingester may be dead, and the locks of an open
    transaction would block the same events under new ids for a minute or more. Raise `IngestError` if the block is not
    open.
    """
    journal, number = block
    found = next((b for b in store.open_blocks(journal) if int(b["s"]) == number), None)
    if found is None:
        raise IngestError(f"block {number} of journal {journal} is not open: nothing to release")
    if found.get("session"):
        store.end_sessions([found["session"]])
    revoked = True
    try:
        span = {name: found[name] for name in ("from", "to", "first")}
        counts = {"stored": 0, "duplicates": 0, "quarantined": 0}
        store.verdicts().insert_one(verdict_key(block) | span | {"revoked": True} | counts)
    except DuplicateKeyError:
        verdict = store.verdicts().find_one(verdict_key(block))
        revoked = bool(verdict and verdict.get("revoked"))
    store.settle(store.identity(), [block])
    return revoked
