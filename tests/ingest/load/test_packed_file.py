"""Packed files that are damaged or cut off: what stands before the damage is read, in every format."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import bson
import pytest

from ingest.client import Receipt
from ingest.exceptions import LoadError
from ingest.load.file_format import read
from ingest.load.loader import LoadResult, file_bookmark, load_file
from ingest.load.packed_file import opened
from tests.support.ingest.damaged_file import until_damage

LINES = [json.dumps({"type": "x", "extra": f"{n * 2654435761 % 2**32:x}" * 3}) for n in range(2_000)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


PACKED = gzip.compress(TEXT, mtime=0)
HALF = len(PACKED) // 2


@pytest.mark.parametrize(
    ("content", "least", "meaning"),
    [
        (PACKED[:HALF], 900, f"the file ends at byte {HALF}"),
        (PACKED[:-4], 2_000, f"the file ends at byte {len(PACKED) - 4}"),
        (flipped(PACKED, len(PACKED) - 6), 2_000, "incorrect data check"),
        (PACKED[:HALF] + bytes(range(256)) * 64, 900, "at about byte"),
        (PACKED + b"trailing garbage", 2_000, f"at about byte {len(PACKED) + 1}"),
        (PACKED + PACKED[:HALF], 2_900, f"the file ends at byte {len(PACKED) + HALF}"),
        (PACKED + flipped(PACKED, 1), 2_000, f"at about byte {len(PACKED) + 1}"),
    ],
    ids=["cut", "no checksum", "bad checksum", "overwritten", "garbage", "second member cut", "second member damaged"],
)
def test_events_before_the_damage_of_a_packed_file_are_kept_and_the_damage_is_named(
    tmp_path: Path, content: bytes, least: int, meaning: str
) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    found, error = until_damage(path)
    assert "damaged gzip" in error
    assert meaning in error
    assert str(path) in error
    good = [line for line in found if not line.fault]
    assert len(good) >= least
    assert [bson.decode(line.event)["extra"] for line in good[:900]] == [
        json.loads(line)["extra"] for line in LINES[:900]
    ]
    assert [line.event for line in until_damage(path)[0]] == [line.event for line in found], "a repeat has the same ids"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("good", [b"", TEXT])
def test_the_error_of_a_damaged_file_says_from_where_on_lines_may_be_altered(
    tmp_path: Path, pack: Any, good: bytes
) -> None:
    path, before = tmp_path / "x.jsonl.gz", pack(good) if good else b""
    plain = b'{"type": "x", "extra": "0123456789"}\n' * 3_000 + TEXT
    packed = pack(plain)
    damages = [before + flipped(packed, len(packed) - back) for back in (6, len(packed) // 2, len(packed) // 3)]
    for content in damages:
        path.write_bytes(content)
        found, error = until_damage(path)
        assert "noticed at about byte" in error
        altered = len(found) > (len(LINES) if good else 0)
        assert (f"altered that were unpacked, and read, from byte {len(before)} " in error) == altered
        assert (f"(byte {len(good)} of its content)" in error) == altered
    path.write_bytes(pack(TEXT) + b"trailing garbage")
    assert "may be altered" not in until_damage(path)[1], "nothing of the damaged member was read"
    path.write_bytes(packed[:-9])
    assert "altered" not in until_damage(path)[1], "the end is missing, and the rest is as it was"


class Collecting:
    """A client that accepts everything and remembers the ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def send(self, batch: list[bytes]) -> Receipt:
        self.ids += [bson.decode(event)["id"] for event in batch]
        return Receipt(len(batch))


def test_a_damaged_file_sends_what_comes_before_and_a_repeat_stores_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(PACKED[:HALF])
    bookmark, client, result = file_bookmark(tmp_path / "run", path), Collecting(), LoadResult()
    for _ in range(2):
        with pytest.raises(LoadError, match="damaged gzip"):
            load_file(client, path, result, bookmark=bookmark)  # type: ignore[arg-type]
    half = len(client.ids) // 2
    assert client.ids[:half] == client.ids[half:], "the ingester knows an event by its id"
    assert len(set(client.ids)) == half >= 900
    assert result.accepted == 2 * half


@pytest.mark.parametrize(
    ("name", "damaged", "whole"),
    [("x.jsonl.gz", flipped(PACKED, len(PACKED) - 6), PACKED), ("x.json", b'[{"type":"a"},"a"', b'[{"type":"a"},{}]')],
)
def test_a_mended_file_of_the_same_name_size_and_time_is_read_from_its_start(
    tmp_path: Path, name: str, damaged: bytes, whole: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(damaged)
    before, client = path.stat(), Collecting()
    with pytest.raises(LoadError, match=r"load the lines that were not read.*neither `id` nor `_id`.*once more"):
        load_file(client, path, LoadResult(), bookmark=file_bookmark(tmp_path / "run", path))  # type: ignore[arg-type]
    assert client.ids
    path.write_bytes(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    result = LoadResult()
    load_file(Collecting(), path, result, bookmark=file_bookmark(tmp_path / "run", path))  # type: ignore[arg-type]
    assert result.accepted == sum(1 for _ in read(path))


def test_a_file_of_which_nothing_was_read_needs_no_advice_about_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")
    with pytest.raises(LoadError, match="map the columns") as error:
        load_file(Collecting(), path, LoadResult(), bookmark=file_bookmark(tmp_path / "run", path))  # type: ignore[arg-type]
    assert "once more" not in str(error.value)


PRETTY = "".join(json.dumps(json.loads(line), indent=1) + "\n" for line in LINES)
BROKEN_OFF = '{"type": "x", "extra": ["never closed",\n'


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("x.json", f"[{','.join(LINES)}]", 0),
        ("x.json", f"\n[\n{', '.join(LINES)}\n]\n", 0),
        ("x.json", "".join(f"{line}\n" for line in LINES), 0),
        ("x.json", PRETTY, 0),
        ("x.json", BROKEN_OFF + "\n".join(f"{line}\n1" for line in LINES), None),
        ("x.csv", "type,extra\n" + "".join(f"x,{json.loads(line)['extra']}\n" for line in LINES), 0),
        ("x.csv", 'type,extra\nx,"an open quote\n' + "".join(f"x,{json.loads(line)['extra']}\n" for line in LINES), 1),
    ],
    ids=["list", "list of lines", "lines", "pretty", "broken off", "csv", "csv with an open quote"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_all_that_is_whole_before_the_end_of_a_cut_file_is_read(
    tmp_path: Path, pack: Any, name: str, text: str, faults: int | None, encoding: str
) -> None:
    path, raw = tmp_path / f"{name}.gz", text.encode(encoding)
    second = pack(raw[len(raw) // 2 :])
    path.write_bytes(pack(raw[: len(raw) // 2]) + second[: len(second) // 2])
    before = bytearray()
    with pytest.raises(LoadError, match="damaged"), opened(path) as file:
        while piece := file.read1():
            before += piece
    unpacked = before.decode(encoding, "ignore")
    expected = [value for value in (json.loads(line)["extra"] for line in LINES) if value in unpacked]
    found, error = until_damage(path)
    assert "damaged" in error
    extras = [bson.decode(line.event)["extra"] for line in found if not line.fault]
    assert extras[: len(expected) - 1] == expected[:-1]
    assert len(expected) > 900
    assert len(extras) - len(expected) in (-1, 0), "the last one may be cut"
    assert faults is None or sum(bool(line.fault) for line in found) in (faults, faults + 1)
