"""Open the next partition, and dump and drop the oldest ones.

Rotation is safe while ingesters run: the new partition and its index exist before the store document names it, and only
after that are its first ids reserved.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from ingest.exceptions import IngestError
from ingest.file_replacement import sync_folder
from ingest.store.partition import Partition, create_partition, create_view, partition_name, stored_numbers
from ingest.store.store import KEY, STORE, Store
from ingest.wire.bson_element import split_documents
from ingest.wire.stored_event import fault_of_stored

_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)
MOST_DUMPED_BYTES = 48 * 2**20  # a message of MongoDB has no more; documents have 16 MiB and a little
STALE_S = 10.0  # rotation is refused while a block has been open for longer


class RotationError(IngestError, code="cannot_rotate"):
    """Rotation would hold up writes or lose events that are still needed; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Dump:
    """A partition dumped to a file."""

    partition: Partition
    path: Path
    count: int  # documents
    sha256: str  # of the documents, uncompressed


def open_next(store: Store) -> Partition:
    """Create the next partition, for all ids reserved from now on, and return it.

    Raise `RotationError` if a block has been open for long, because writes to the new partition would wait for it, or
    if the newest partition is still empty.
    """
    identity = store.identity()
    watermark = store.watermark()
    for block in store.open_blocks():
        if (age_s := (store.now() - block["at"]).total_seconds()) > STALE_S:
            raise RotationError(
                f"block {block['s']} of journal {block['j']} has been open for {age_s:.0f} s, and writes to a new "
                "partition would wait for it: start the ingester that has the journal, or release the block"
            )
    newest = watermark.partitions[-1]
    database = store.database()
    if not _has_events(store, newest):
        raise RotationError(f"{newest.name} is still empty: there is nothing to rotate")
    number = newest.number + 1
    create_partition(database, partition_name(number))
    database[STORE].update_one(
        KEY | {"store": identity.store, "epoch": identity.epoch, "partitions.n": {"$ne": number}},
        [{"$set": {"partitions": {"$concatArrays": ["$partitions", [{"n": number, "first": "$next"}]]}}}],
    )
    partitions = store.watermark().partitions
    create_view(database, partitions)
    return partitions[-1]


def dump(store: Store, partition: Partition, folder: Path, on_progress: Callable[[int], None] = lambda n: None) -> Dump:
    """Write the partition's documents in order of id to `<folder>/<name>.bson.gz`; it is on disk when this returns.

    Raise `RotationError` if the folder is not writable, or has a file of that name with other documents (the dump of
    another store), which is left alone. An unfinished file never has the final name.
    """
    path = folder / f"{partition.name}.bson.gz"
    temporary = path.with_suffix(".part")
    digest, count = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as raw:
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
                batches: Any = store.database()[partition.name].find_raw_batches({}, sort=[("_id", 1)])
                for batch in batches:
                    file.write(batch)
                    digest.update(batch)
                    found = len(split_documents(batch))
                    count += found
                    on_progress(found)
            raw.flush()
            os.fsync(raw.fileno())
        if path.exists() and _digest(path) != digest.hexdigest():
            temporary.unlink()
            raise RotationError(f"{path} exists and holds other documents: move it, or choose another folder")
        temporary.replace(path)
        sync_folder(folder)
    except OSError as error:
        raise RotationError(f"{path} cannot be written: {error.strerror or error}") from None
    return Dump(partition, path, count, digest.hexdigest())


def _digest(path: Path) -> str | None:
    """Return the digest of a file's uncompressed content; None if the file is damaged."""
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None


def verify(store: Store, made: Dump) -> None:
    """Read a dump back and compare it with what was written and with the partition's count.

    Raise `RotationError` if they differ, or if an ingester would refuse one of the events when the dump is restored.
    """
    digest = hashlib.sha256()
    count = 0
    with gzip.open(made.path) as file:
        for raw in read_dump(file):
            digest.update(raw)
            count += 1
            if fault := fault_of_stored(raw):
                event_id = bson.decode(raw, _ANY_DATE).get("_id")
                raise RotationError(
                    f"{made.path} could not be restored: event {event_id} would be refused ({fault}). The partition "
                    "is kept: correct the event, or delete it"
                )
    stored = store.database()[made.partition.name].count_documents({})
    if digest.hexdigest() != made.sha256 or not count == made.count == stored:
        raise RotationError(
            f"{made.path} holds {count} documents, but {made.count} were written and {made.partition.name} holds "
            f"{stored}: the partition is kept"
        )


def drop(store: Store, partition: Partition) -> None:
    """Remove the oldest partition from the store and drop its collection.

    Raise `RotationError` for any other partition, or if blocks in it are not settled.
    """
    watermark = store.watermark()
    if len(watermark.partitions) < 2 or watermark.partitions[0] != partition:
        raise RotationError(f"{partition.name} is not the oldest of several partitions: only that one can be dropped")
    if watermark.through + 1 < watermark.partitions[1].first_id:
        raise RotationError(f"{partition.name} is still being written to: wait until its last blocks are settled")
    database = store.database()
    remaining = watermark.partitions[1:]
    create_view(database, remaining)
    database[STORE].update_one(KEY, {"$pull": {"partitions": {"n": partition.number}}})
    database[partition.name].drop()


def leftover_partitions(store: Store) -> list[Partition]:
    """Return partitions that were removed from the store, but whose collection an interrupted `drop` left behind."""
    oldest = store.watermark().partitions[0]
    return [Partition(partition_name(n), 0) for n in stored_numbers(store.database()) if n < oldest.number]


def rotate(
    store: Store,
    folder: Path,
    *,
    keep: int,
    needed_above: int | None = None,
    within_s: float = 30.0,
    on_progress: Callable[[int], None] = lambda n: None,
) -> tuple[Partition, list[Dump]]:
    """Open the next partition, then dump, verify and drop the oldest ones beyond `keep`; return it and the dumps.

    Every reader has read up to id `needed_above`; None = there are no readers. Raise `RotationError` if a partition to
    be dropped goes beyond it. What an interrupted call left behind is finished first.
    """
    dumps = []
    for partition in leftover_partitions(store):
        made = dump(store, partition, folder, on_progress)
        verify(store, made)
        store.database()[partition.name].drop()
        dumps.append(made)
    _refuse_in_advance(store, folder, keep, needed_above)
    newest = store.watermark().partitions[-1]
    # An empty newest partition was opened by a rotation that was interrupted: continue from there.
    resumed = len(store.watermark().partitions) > keep and not _has_events(store, newest)
    opened = newest if resumed else open_next(store)
    wait_settled(store, opened, within_s)
    partitions = store.watermark().partitions
    for oldest, following in pairwise(partitions[: len(partitions) - keep + 1]):
        _refuse_if_needed(oldest, following.first_id, needed_above)
        made = dump(store, oldest, folder, on_progress)
        verify(store, made)
        drop(store, oldest)
        dumps.append(made)
    return opened, dumps


def _refuse_in_advance(store: Store, folder: Path, keep: int, needed_above: int | None) -> None:
    """Raise `RotationError` for obstacles that can be found before anything is changed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RotationError(f"{folder} cannot be written: {error.strerror or error}; choose another folder") from None
    watermark = store.watermark()
    partitions = watermark.partitions
    if len(partitions) + _has_events(store, partitions[-1]) > keep:
        end = partitions[1].first_id if len(partitions) > 1 else watermark.through + 1
        _refuse_if_needed(partitions[0], end, needed_above)


def _refuse_if_needed(partition: Partition, end: int, needed_above: int | None) -> None:
    if needed_above is not None and needed_above + 1 < end:
        raise RotationError(
            f"{partition.name} is kept: an aggregate has read up to id {needed_above}, and the partition goes up to "
            f"{end - 1}; run the aggregate, or disable it"
        )


def _has_events(store: Store, partition: Partition) -> bool:
    return store.database()[partition.name].find_one({}, {"_id": 1}) is not None


def wait_settled(store: Store, partition: Partition, within_s: float) -> None:
    """Return once every id below `partition` is settled. Raise `RotationError` after `within_s`."""
    deadline = time.monotonic() + within_s
    while store.watermark().through + 1 < partition.first_id:
        if time.monotonic() > deadline:
            raise RotationError(f"blocks below {partition.name} are not settled after {within_s:g} s: try again later")
        time.sleep(0.05)  # MongoDB cannot notify us


def read_dump(file: io.BufferedIOBase) -> Iterator[bytes]:
    """Yield the documents of a file of concatenated BSON documents. Raise `RotationError` if it ends inside one.

    So it does for a length that no document has, which would take that much memory.
    """
    while head := file.read(4):
        length = int.from_bytes(head, "little", signed=True)
        if length > MOST_DUMPED_BYTES:
            raise RotationError(f"a document of {length} bytes begins here, or the file is damaged: none is that large")
        rest = file.read(length - 4) if length >= 5 else b""
        if len(head) + len(rest) != length:
            raise RotationError("the file ends inside a document, or is not a file of BSON documents")
        yield head + rest
