"""Files of `loadevents`: packed and damaged ones, lists in JSON, encodings, extended JSON."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId, json_util
from bson.codec_options import CodecOptions
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS

from ingest.exceptions import LoadError
from ingest.load import json_array
from ingest.load.column import parse_mapping
from ingest.load.file_format import FileOptions, read
from ingest.wire import json_value
from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_reader import read_messages
from tests.support.durations import assert_within
from tests.support.ingest.damaged_file import until_damage
from tests.support.ingest.tar_archive import KINDS, tar_of

LINES = [json.dumps({"type": "x", "extra": f"{n * 2654435761 % 2**32:x}" * 3}) for n in range(2_000)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def extras(path: Path, **options: Any) -> list[Any]:
    lines = list(read(path, FileOptions(**options)))
    assert [line.fault for line in lines if line.fault] == []
    return [bson.decode(line.event).get("extra") for line in lines]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.csv", "x"])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_a_packed_file_is_read_whatever_its_name(tmp_path: Path, name: str, pack: Any) -> None:
    path = tmp_path / name
    path.write_bytes(pack(b"type,extra\nx,1\n" if ".csv" in name else b'{"type": "x", "extra": "1"}\n'))
    assert extras(path) == ["1"]


def test_several_packed_members_and_padding_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(TEXT[:20_000]) + gzip.compress(TEXT[20_000:]) + bytes(512))
    assert len(extras(path)) == len(LINES)


@pytest.mark.parametrize(
    ("start", "name", "command"),
    [(b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"), (b"PK\x03\x04", "zip", "unzip"), (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
     (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"), (b"\x1f\x9d", "compress", "uncompress"), (b"LZIP\x01", "lzip", "lzip -d"),
     (b"\x89LZO\x00", "lzop", "lzop -d"), (b"Rar!\x1a\x07", "rar", "unrar x"),
     *((zlib.compress(TEXT, level), "zlib", "pigz -dz") for level in (0, 6, 9)),
     (lzma.compress(TEXT, lzma.FORMAT_ALONE), "lzma", "unlzma")],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "csv.zst"])
def test_other_compressions_are_refused_by_name(
    tmp_path: Path, start: bytes, name: str, command: str, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(start + bytes(100))
    with pytest.raises(LoadError, match=f"is packed with {name}.*`{command}`"):
        list(read(path, FileOptions(parse_mapping(["type=a"] if "csv" in suffix else []))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "bson"])
def test_tar_archives_are_refused_by_name_before_anything_is_read(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    archive = tar_of(kind, TEXT, TEXT)
    for pack, name in ((bytes, "tar"), (gzip.compress, "tar within gzip"), (bz2.compress, "tar within bzip2"),
                       (lzma.compress, "tar within xz")):  # fmt: skip
        path.write_bytes(pack(archive))
        with pytest.raises(LoadError, match=f"is packed with {name}, which cannot be read: .* `tar xf`"):
            next(read(path))
    path.write_bytes(gzip.compress(b"PK\x03\x04" + bytes(100)))
    with pytest.raises(LoadError, match=r"is packed with zip within gzip, .* `gunzip` and `unzip`"):
        next(read(path))


@pytest.mark.parametrize("length", [0x5D, 0x178, 0x9C78, 0xDA78])
def test_a_dump_whose_length_looks_like_a_mark_of_a_compression_is_read(tmp_path: Path, length: int) -> None:
    event = {"type": "x", "id": "1", "extra": ""}
    event["extra"] = "x" * (length - len(bson.encode(event)))
    path = tmp_path / "x.bson"
    path.write_bytes(bson.encode(event))
    assert path.stat().st_size == length
    assert extras(path) == [event["extra"]]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf\r\n", "\ufeff".encode("utf-16-le")])
def test_an_empty_file_has_no_events(tmp_path: Path, content: bytes) -> None:
    for name, mapping in (("x.csv", ["type=kind"]), ("x.csv", []), ("x.jsonl", [])):
        (tmp_path / name).write_bytes(content)
        assert list(read(tmp_path / name, FileOptions(parse_mapping(mapping)))) == []


def test_options_for_csv_are_refused_for_other_files_whatever_the_case_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "X.CSV.GZ").write_bytes(gzip.compress(b"kind\nx\n"))
    (tmp_path / "x.txt").write_bytes(b"kind\nx\n")
    options = FileOptions(parse_mapping(["type=kind"]))
    assert [line.fault for line in read(tmp_path / "X.CSV.GZ", options)] == [""]
    with pytest.raises(LoadError, match="--map and --delimiter are for CSV"):
        list(read(tmp_path / "x.txt", options))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_lines_are_read_in_the_encoding_of_their_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes('{"type": "x", "extra": "é"}\r\n\n{"type": "x", "extra": 2}'.encode(encoding))
    assert extras(path) == ["é", 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("form", ["\ufeff{}", "\ufeff[{}]", "\ufeff[\n{}\n]\n"])
def test_half_of_a_surrogate_pair_takes_no_neighbour_along(tmp_path: Path, encoding: str, form: str) -> None:
    path = tmp_path / "x.json"
    good, bad = '{"type": "a"}', '{"type": "\ud83d"}'
    text = form.format(("," if "[" in form else "\n").join([*[good] * 3_000, bad, *[good] * 3_000]))
    path.write_bytes(text.encode(encoding, "surrogatepass"))
    found = list(read(path))
    faults = [(each.number, each.fault) for each in found if each.fault]
    assert faults == [(3_001, "not JSON in UTF-8: half of a surrogate pair at byte 10")]
    assert len(found) == 6_001


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_too_few_or_too_many_takes_the_last_line_along(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.jsonl"
    whole = '{"type": "a"}\n{"type": "b"}'.encode(encoding)
    for content in (whole[:-1], whole + b"\n", whole + b"\0"):
        path.write_bytes(content)
        assert [bool(each.fault) for each in read(path)] == [False, True]


def test_a_mark_in_the_middle_of_a_file_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes('{"type": "x", "extra": 1}\n'.encode("utf-8-sig") * 2)
    assert extras(path) == [1, 1]
    path.write_bytes('{"type": "x"}\n'.encode("utf-16-be"))
    with pytest.raises(LoadError, match="without a byte order mark"):
        list(read(path))


@pytest.mark.parametrize("separators", [(", ", ": "), (",\n", ":"), ("\n ,\r\n", " : ")])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_is_read_item_by_item(tmp_path: Path, separators: Any, indent: int | None, encoding: str) -> None:
    path = tmp_path / "x.json"
    events = [{"type": "x", "extra": {"n": n, "list": [1, "]"]}} for n in range(50)]
    path.write_bytes(f"\ufeff\n {json.dumps(events, separators=separators, indent=indent)}".encode(encoding))
    assert extras(path) == [event["extra"] for event in events]
    assert [line.number for line in read(path, after=48)] == [49, 50]


def test_bad_items_of_a_list_leave_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(
        b'[{"type": "a"}, 7, {"type": "b", "extra": NaN}, {"a": 1, "a": 1}, {"type": "\xff"}, {"type": "c"}]'
    )
    found = list(read(path))
    assert [(line.number, bool(line.fault)) for line in found] == [
        (1, False), (2, True), (3, True), (4, True), (5, True), (6, False),
    ]  # fmt: skip
    path.write_bytes(b"[]")
    assert list(read(path)) == []
    for end in (b"\n", b"\r"):
        path.write_bytes(b'[1]%b{"type": "a"}%b' % (end, end))
        assert [bool(line.fault) for line in read(path)] == [True, False], "lists on lines of their own are bad lines"


@pytest.mark.parametrize(
    ("text", "count", "meaning"),
    [
        ('[{"type": "a"}, {"type": "b"', 1, "item 2, or the file ends inside it"),
        ('[{"type": "a"}, {"type": }]', 1, "not JSON at item 2"),
        ('[{"type": "a"} {"type": "b"}]', 1, "item 1 of the list is followed by '{'"),
        ('[{"type": "a"}] [{"type": "b"}', 1, "text follows the end of the list, after item 1"),
        ('[{"type": "a"}', 1, "not closed: the file ends after item 1"),
        ("[", 0, "item 1, or the file ends"),
    ],
)
def test_a_list_that_is_broken_is_read_up_to_the_break(tmp_path: Path, text: str, count: int, meaning: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(f"\n{text}")
    found, error = until_damage(path)
    assert len(found) == count
    assert meaning in error


@pytest.mark.parametrize(
    "line",
    ["[INFO] start", "[2024-01-31 12:00:00] boot", "[12:00:00] boot", "[1706702400.5] boot", "[1234] boot", "[] boot",
     '["INFO"] boot', "[true] boot", "[-] boot", "[::1] GET /", "[7]", "[]"],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_line_of_a_log_before_json_lines_is_refused_alone(tmp_path: Path, line: str, encoding: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(f'\n{line}\n{{"type": "a"}}\n[WARN] slow\n{{"type": "b"}}\n'.encode(encoding))
    assert [(each.number, bool(each.fault)) for each in read(path)] == [(2, True), (3, False), (4, True), (5, False)]


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_a_file_of_values_separated_by_tabs_is_csv(tmp_path: Path, name: str) -> None:
    text = b"type\tcontext.a\nx\t1,2\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    (line,) = read(tmp_path / name)
    assert bson.decode(line.event)["context"] == {"a": "1,2"}


def test_a_list_of_many_small_items_is_read_without_copying_what_follows_each() -> None:
    text = ",\n".join(["{}"] * 200_000)

    def read_all() -> float:
        own = time.process_time()  # not the clock: the machine may be busy with other tests
        assert sum(1 for _ in json_array.items([f"[{text}]"])) == 200_000
        return time.process_time() - own

    assert_within(4.0, read_all, tries=1)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("blanks", ["", " ", "\n \n"])
def test_no_item_is_cut_where_a_piece_ends(monkeypatch: pytest.MonkeyPatch, size: int, blanks: str) -> None:
    monkeypatch.setattr(json_array, "PIECE_CHARS", size)
    items = ["1", "-0.5", "1.5e+30", "2E-7", "12e3", "true", "null", '"a, ]"', '""', '"\\""', "[]", '{"a": [1.25, {}]}']
    text = f"[{blanks}{f'{blanks},{blanks}'.join(items)}{blanks}]{blanks}"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert [item.strip() for item in json_array.items(pieces)] == items


def test_a_list_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "PIECE_CHARS", 3)
    values = [{"a": [1, 23, "x, ]y"]}, 12345, "text", [], None]
    assert [json.loads(text) for text in json_array.items(json.dumps(values, indent=1))] == values
    monkeypatch.setattr(json_array, "MAX_ITEM_CHARS", 20)
    with pytest.raises(LoadError, match="longer than 20 characters"):
        list(json_array.items(json.dumps(["x" * 100])))


def test_objects_may_span_lines_and_one_that_is_broken_off_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    event = {"type": "a", "extra": [{"n": 1}, {"n": "} ]"}]}
    pretty = json.dumps(event, indent=1)
    path.write_text(f'{pretty}\n\n{{"type": "b", "extra": [\n{pretty}\n{{"type": "c"}}\n')
    found = list(read(path))
    assert [(line.number, line.fault[:15]) for line in found] == [(11, ""), (13, "not JSON in UTF"), (24, ""), (25, "")]
    path.write_text(pretty.replace('"a",', '"a",,') + "\n" + pretty)
    assert [(line.number, line.fault[:24]) for line in read(path)] == [(11, "from line 1 on: not JSON"), (22, "")]
    path.write_text(f'{pretty}\n{{"type": "b", "extra":\n{{"type": "c"}}\n{pretty}')
    found = list(read(path))
    assert [(line.number, bool(line.fault)) for line in found] == [(11, False), (12, True), (13, False), (24, False)]
    assert [line.number for line in read(path, after=11)] == [12, 13, 24]


def test_mongoexports_values_are_read_or_kept_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '{"type": "a", "timestamp": {"$date": "2024-01-31T12:00:00Z"}, "extra": {"$numberLong": "5"}}\n'
        '{"type": "a", "extra": {"$numberLong": "x"}}\n'
    )
    good, bad = read(path)
    assert type(bson.decode(good.event)["extra"]) is Int64
    assert "$numberLong is 'x'" in bad.fault
    path.write_text('{"type": "a", "extra": [{"$numberLong": "x"}, {"$datetime": 0}]}')
    assert extras(path, extended=False)[0][0] == {"$numberLong": "x"}


OID = ObjectId("507f1f77bcf86cd799439011")
OF_2011 = {"jobs": [], "aggregates": ["visits"]}  # marks that the system of 2011 added to events


@pytest.mark.parametrize("key", [OID, Int64(2**40), "text", {"a": Int64(1)}])
@pytest.mark.parametrize("own_id", [{}, {"id": "mine"}])
@pytest.mark.parametrize("form", ["canonical", "relaxed"])
@pytest.mark.parametrize("array", [False, True])
def test_what_mongoexport_writes_is_read_as_a_dump_is(
    tmp_path: Path, key: Any, own_id: dict[str, str], form: str, array: bool
) -> None:
    moment = datetime(2024, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    stored = {"_id": key, "timestamp": moment, "type": "x", "context": {"n": Int64(2**40), "i": 5}, **own_id, **OF_2011}
    other = {"_id": Int64(8), "type": "y", "more": [7]}  # as event_noval may have stored it
    how = CANONICAL_JSON_OPTIONS if form == "canonical" else RELAXED_JSON_OPTIONS
    texts = [json_util.dumps(each, json_options=how, separators=(",", ":")) for each in (stored, other)]
    exported, dump = tmp_path / "x.json", tmp_path / "x.bson"
    exported.write_text(f"[{','.join(texts)}]\n" if array else "".join(f"{text}\n" for text in texts))
    dump.write_bytes(bson.encode(stored) + bson.encode(other))
    read_ones, dumped = list(read(exported)), list(read(dump))
    assert [line.fault for line in read_ones] == ["", ""]
    assert [bson.decode(line.event).keys() for line in read_ones] == [bson.decode(line.event).keys() for line in dumped]
    if form == "canonical":
        assert [line.event for line in read_ones] == [line.event for line in dumped]
    else:
        again = tmp_path / "again.json"
        again.write_text("\n".join(reversed(texts)))
        assert {line.event for line in read(again)} == {line.event for line in read_ones}
    batch = ReceivedBatch("ack")
    read_messages([line.event for line in read_ones], batch, 0)
    assert batch.refusals == []
    first = bson.decode(batch.events[0], CodecOptions(tz_aware=True))
    assert {name: first[name] for name in stored if name != "_id"} == {n: v for n, v in stored.items() if n != "_id"}


def test_a_document_without_a_timestamp_gets_the_time_of_its_object_id_in_dumps_and_exports(tmp_path: Path) -> None:
    stored = [{"_id": OID, "type": "x"}, {"_id": "text", "type": "x"}]
    dump, exported = tmp_path / "x.bson", tmp_path / "x.json"
    dump.write_bytes(b"".join(map(bson.encode, stored)))
    exported.write_text("\n".join(map(json_util.dumps, stored)))
    for path in (dump, exported):
        events = [bson.decode(line.event, CodecOptions(tz_aware=True)) for line in read(path)]
        assert [event.get("timestamp") for event in events] == [OID.generation_time, None]


def test_what_mongoexport_writes_of_another_collection_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '{"_id":"x","foo":1}\n{"_id":3,"type":5}\n{"_id":4,"type":"x","context":[]}\n{"_id":5,"type":"x","foo":1}\n'
    )
    words = ["has no type", "must be text of 1 to", "must be a document", ""]
    assert [word in line.fault for line, word in zip(read(path), words, strict=True)] == [True] * 4
    assert [bool(line.fault) for line in read(path)] == [True, True, True, False]


def test_an_id_of_mongodb_that_is_malformed_is_refused_with_its_value(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        '{"_id":{"$oid":"507f"},"type":"x"}\n{"_id":1,"type":"x","timestamp":"soon"}\n'
        '{"$command":"event_noval","_id":1,"type":"x","timestamp":"2024-01-31"}\n'
    )
    bad, soon, good = read(path)
    assert "$oid is '507f'" in bad.fault
    assert "soon" in soon.fault
    assert list(bson.decode(good.event)) == ["$command", "type", "timestamp", "id"]


def test_a_line_beyond_the_bound_and_a_command_are_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.load.line_reader.MAX_LINE", 100)
    path = tmp_path / "x.jsonl"
    path.write_text('{"type": "a"}\n' + "x" * 500 + '\n{"$command": "agg_complete"}\n{"type": "b"}\n')
    assert [bool(line.fault) for line in read(path)] == [False, True, True, False]


@pytest.mark.parametrize("item", ["[" + "[]," * 500_000 + "1]", '{"type":"x","extra":[' + '"",' * 1_500_000 + "1]}"])
def test_an_item_of_a_list_that_cannot_be_an_event_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'[{{"type":"a"}}, {item}, {{"type":"b"}}]')
    decode, lengths = json_value._decode, list[int]()

    def counted(decoder: Any, text: str) -> Any:
        lengths.append(len(text))
        return decode(decoder, text)

    monkeypatch.setattr(json_value, "_decode", counted)
    assert [bool(line.fault) for line in read(path)] == [False, True, False]
    assert max(lengths) < 100
