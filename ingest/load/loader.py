"""Send events from files and collections through the acknowledged socket, and remember the position."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ingest.client import AcknowledgedClient
from ingest.exceptions import BusyError, LoadError
from ingest.file_replacement import replace_file
from ingest.load.file_format import FileOptions, NumberedEvent, read

BATCH_EVENTS = 1_000
_LOADED_AGAIN = (
    "Once it is mended, load the lines that were not read: of the whole file, events that have neither `id` nor `_id` "
    "would be stored once more, because the id that they get is made from its content"
)
BUSY_PAUSE_S = 0.2
MOST_EXAMPLES = 10


@dataclass(slots=True)
class LoadResult:
    """The outcome for the lines of all sources."""

    accepted: int = 0
    rejected: int = 0
    examples: list[str] = field(default_factory=list)  # the first `MOST_EXAMPLES` refusals, for display

    def refuse(self, source: object, number: object, message: str, count: int = 1) -> None:
        """Count `count` lines that were refused alike; `number` is that of the first one."""
        self.rejected += count
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{source}, {number}: {message}")


class Bookmark:
    """Keep the position of an unfinished load in a file.

    The position belongs to the content named by `identity`; with another identity the load starts at the beginning.
    `how` says how the content is read: both parts of a load must be read alike. Both are values of JSON.
    """

    def __init__(self, folder: Path, name: str, identity: Any, how: Any = None) -> None:
        self._path = folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.json"
        self._content = {"name": name, "identity": identity, "how": how}

    def read(self) -> Any:
        """Return the position after which to resume, or None to start at the beginning.

        Raise `LoadError` if the part before it was read in another way.
        """
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if found.get("identity") != self._content["identity"]:
            return None
        if found.get("how") != self._content["how"]:
            raise LoadError(
                f"{self._content['name']}: an interrupted load used other options: use the same options to resume it, "
                "or --from-start to load the whole file; events that are stored already do not change"
            )
        return found.get("position")

    def write(self, position: Any) -> None:
        """Record that everything up to and including `position` is on the ingester's disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, json.dumps(self._content | {"position": position}), durable=False)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def file_bookmark(folder: Path, path: Path, options: FileOptions | None = None) -> Bookmark | None:
    """Return the bookmark of a file, or None if there is no such file, which reading it will report."""
    with contextlib.suppress(OSError):
        found = path.stat()
        how = json.loads(json.dumps(asdict(options or FileOptions())))  # as it is read back
        return Bookmark(folder, str(path.resolve()), [found.st_size, found.st_mtime_ns], how)
    return None


def load_file(
    client: AcknowledgedClient,
    path: Path,
    result: LoadResult,
    *,
    options: FileOptions | None = None,
    bookmark: Bookmark | None = None,
    strict: bool = False,
    on_progress: Callable[[int], None] = lambda n: None,
) -> None:
    """Send every event of a file (see `ingest.load.file_format.read`), waiting while the ingester is busy.

    With a bookmark, an interrupted load resumes where it was. Of a file that cannot be read to its end, what stands
    before is sent, and the next load begins at its start: a mended file may have the same size and time. Bad lines are
    counted; with `strict`, the first one ends the load. Raise `LoadError` and `DeliveryError`.
    """
    after = int((bookmark.read() if bookmark else None) or 0)
    accepted_before = result.accepted
    damage: list[LoadError] = []
    lines = _until_damage(read(path, options or FileOptions(), after=after), damage)
    send_lines(
        client, path, lines, result,
        save_position=bookmark.write if bookmark else None, strict=strict, on_progress=on_progress,
    )  # fmt: skip
    if bookmark:
        bookmark.remove()
    if damage:
        raise LoadError(f"{damage[0]}. {_LOADED_AGAIN}") if after or result.accepted > accepted_before else damage[0]


def send_lines(
    client: AcknowledgedClient,
    source: object,
    lines: Iterable[NumberedEvent],
    result: LoadResult,
    *,
    save_position: Callable[[Any], None] | None = None,
    strict: bool = False,
    on_progress: Callable[[int], None] = lambda n: None,
) -> None:
    """Send lines in batches; after each, call `save_position` with its last line's number."""
    batch: list[NumberedEvent] = []
    for line in lines:
        if line.fault:
            result.refuse(source, line.number, line.fault)
            if strict:
                _send(client, source, batch, result)
                raise _bad(result)
        else:
            batch.append(line)
        if len(batch) >= BATCH_EVENTS:
            _finish(client, source, batch, result, save_position, strict)
            batch = []
        on_progress(1)
    if batch:
        _finish(client, source, batch, result, save_position, strict)


def _until_damage(lines: Iterable[NumberedEvent], damage: list[LoadError]) -> Iterator[NumberedEvent]:
    """Yield lines; an error of their source ends them and is put into `damage`."""
    try:
        yield from lines
    except LoadError as error:
        damage.append(error)


def _finish(
    client: AcknowledgedClient, source: object, batch: list[NumberedEvent], result: LoadResult, save: Any, strict: bool
) -> None:
    before = result.rejected
    _send(client, source, batch, result)
    if strict and result.rejected > before:
        raise _bad(result)
    if save is not None:
        save(batch[-1].number)


def _bad(result: LoadResult) -> LoadError:
    return LoadError(f"{result.examples[-1]} ({result.accepted} events were accepted before; --strict stops here)")


def _send(client: AcknowledgedClient, source: object, batch: Sequence[NumberedEvent], result: LoadResult) -> None:
    numbers, events = [line.number for line in batch], [line.event for line in batch]
    while events:
        try:
            receipt = client.send(events)
        except BusyError as error:
            receipt = error.data["receipt"]
            time.sleep(BUSY_PAUSE_S)  # the ingester does not announce that it has space again
            left = error.data["unsent"]
        else:
            left = []
        result.accepted += receipt.accepted
        for refusal in receipt.rejected:
            message = f"{refusal['code']}: {refusal['message']}"
            result.refuse(source, numbers[refusal["index"]], message, refusal.get("count", 1))
        unsent = set(map(id, left))
        numbers, events = [n for n, event in zip(numbers, events, strict=True) if id(event) in unsent], left
