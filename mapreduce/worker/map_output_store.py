"""Store of the map output that a worker holds until its job has ended: small outputs in memory, the rest in files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapreduce.exceptions import OutputGoneError
from mapreduce.step.spill import read_file
from mapreduce.worker.locked_folder import job_folder, remove_job

MEMORY_BYTES = 16 * 2**20  # limit of outputs held in memory, over all jobs


@dataclass
class _Held:
    document: dict[str, Any]  # as read by `SplitOutput.from_document`
    data: bytes | None  # None = in the file that `document` names


class MapOutputStore:
    """Map output by job and attempt. Belongs to the worker's thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, dict[str, _Held]] = {}
        self._memory = 0

    def put(self, job_id: str, document: dict[str, Any], data: bytes | None) -> None:
        """Keep an output. If `MEMORY_BYTES` would be exceeded, write it to a file and set `document["path"]`."""
        if data is not None and self._memory + len(data) > MEMORY_BYTES:
            path = self.job_folder(job_id) / f"kept.{document['attempt']}.bson"
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(data)
            document["path"], data = str(path), None
        self._memory += len(data or b"")
        self._held.setdefault(job_id, {})[document["attempt"]] = _Held(document, data)

    def read(self, job_id: str, attempt_id: str, offset: int, length: int) -> bytes:
        """Return a part of an output. Raise `OutputGoneError` if it is not here."""
        held = self._held.get(job_id, {}).get(attempt_id)
        if held is None:
            raise OutputGoneError(f"map output {attempt_id} of job {job_id} is no longer here")
        if held.data is not None:
            return held.data[offset : offset + length]
        return read_file(Path(held.document["path"]), offset, length)

    def inventory(self) -> Iterator[dict[str, Any]]:
        """Yield the document of every output, with the id of its job."""
        for job_id, outputs in self._held.items():
            for held in outputs.values():
                yield {"job": job_id, **held.document}

    def job_folder(self, job_id: str) -> Path:
        """Return the folder in which executors put the files of a job. Raise `SpecError` if `job_id` is invalid."""
        return job_folder(self.folder, job_id)

    def forget(self, job_id: str) -> None:
        """Drop the outputs and files of a job. Raise `SpecError` if `job_id` is invalid."""
        for held in self._held.pop(job_id, {}).values():
            self._memory -= len(held.data or b"")
        remove_job(self.folder, job_id)
