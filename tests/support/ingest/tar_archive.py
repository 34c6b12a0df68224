"""Tar archives of all kinds that programs write."""

from __future__ import annotations

import io
import tarfile

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
KINDS = (*FORMATS, "v7")


def tar_of(kind: str, *contents: bytes) -> bytes:
    """Return an archive with a file for each content; `v7` is the form of 1979, without `ustar` in its headers."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=FORMATS.get(kind, tarfile.USTAR_FORMAT)) as archive:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"logs/\u00e9{number}.jsonl" if kind == "pax" else f"logs/{number}.jsonl")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue() if kind != "v7" else _without_magic(made.getvalue())


def _without_magic(archive: bytes) -> bytes:
    header = bytearray(archive[:512])
    header[257:512] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]
