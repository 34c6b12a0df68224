"""Loading files and other collections: formats, ids, bad lines, and resuming after an interruption."""

from __future__ import annotations

import gzip
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from django.core.management import CommandError, call_command
from pymongo.database import Database

from ingest.client import Receipt
from ingest.exceptions import DeliveryError, LoadError
from ingest.load import collection_import
from ingest.load.column import parse_mapping
from ingest.load.file_format import FileOptions, NumberedEvent, read
from ingest.load.loader import BATCH_EVENTS, Bookmark, LoadResult, file_bookmark, load_file
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually

AWARE = CodecOptions[dict[str, Any]](tz_aware=True)


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def events(path: Path, *mapping: str) -> list[dict[str, Any]]:
    lines = list(read(path, FileOptions(parse_mapping(mapping))))
    assert [line.fault for line in lines if line.fault] == []
    return [{name: v for name, v in bson.decode(line.event, AWARE).items() if name != "id"} for line in lines]


@pytest.mark.parametrize("name", ["visits.csv", "visits.csv.gz"])
def test_columns_of_a_csv_file_become_fields(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name, '\ufeffwhen,url,n,"a, b"\r\n2026-01-02T03:04:05Z,/x,3,"{""y"": 1}"\r\n1767225600,,4,\r\n'
    )
    mapping = ["type==visit", "timestamp=when", "context.page=url", "context.n=n:int", "extra=a, b:json"]
    first, second = events(path, *mapping)
    assert first == {
        "type": "visit", "timestamp": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "context": {"page": "/x", "n": 3},
        "extra": {"y": 1},
    }  # fmt: skip
    assert second == {"type": "visit", "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "context": {"n": 4}}


def test_columns_named_as_fields_need_no_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "type,context.user.name\nvisit,ann\n")
    assert events(path) == [{"type": "visit", "context": {"user": {"name": "ann"}}}]


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (["nonsense"], "write FIELD=COLUMN"),
        (["colour=x"], "fields are type"),
        (["type=kind"], "no column kind; it has type, n"),
        ([], "column 'n' is not a field of an event"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, mapping: list[str], text: str) -> None:
    path = write(tmp_path / "x.csv", "type,n\na,1\n")
    with pytest.raises(LoadError, match=text):
        list(read(path, FileOptions(parse_mapping(mapping))))


def test_bad_lines_are_numbered_and_the_others_read(tmp_path: Path) -> None:
    table = write(tmp_path / "x.csv", "type,context.n\na,1\nb\nc,x\n\nd,4\n")
    found = list(read(table, FileOptions(parse_mapping(["type=type", "context.n=context.n:int"]))))
    assert [(line.number, line.fault) for line in found] == [
        (2, ""), (3, "1 cells; the header has 2"), (4, "column context.n: 'x' cannot be read as int"), (6, "")
    ]  # fmt: skip
    lines = write(tmp_path / "x.jsonl", b'{"type": "a"}\n[]\n\n\xff\n{"type": "b"}')
    assert [line.number for line in read(lines) if line.fault] == [2, 4]


def test_ids_depend_on_content_and_line_and_not_on_the_name(tmp_path: Path) -> None:
    def ids(path: Path) -> list[str]:
        return [bson.decode(line.event)["id"] for line in read(path)]

    content = '{"type": "a"}\n' * 3
    first = ids(write(tmp_path / "a.jsonl", content))
    assert len(set(first)) == 3
    assert ids(write(tmp_path / "renamed.jsonl.gz", content)) == first
    (tmp_path / "day2").mkdir()
    other = ids(write(tmp_path / "day2" / "a.jsonl", content + '{"type": "b"}\n'))
    assert not set(other) & set(first), "equal lines of two files of one name are two events"
    assert ids(write(tmp_path / "own.jsonl", '{"type": "a", "id": "mine"}')) == ["mine"]


class Dying:
    """A client whose ingester disappears after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.sent: list[str] = []

    def send(self, batch: list[bytes]) -> Receipt:
        if not self.left:
            raise DeliveryError("no ingester listens")
        self.left -= 1
        self.sent += [bson.decode(event)["type"] for event in batch]
        return Receipt(len(batch))


def test_an_interrupted_load_resumes_after_what_was_acknowledged(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", "".join(json.dumps({"type": str(n)}) + "\n" for n in range(3 * BATCH_EVENTS)))
    bookmark = file_bookmark(tmp_path / "run", path)
    first, second = Dying(2), Dying(9)
    with pytest.raises(DeliveryError):
        load_file(first, path, LoadResult(), bookmark=bookmark)  # type: ignore[arg-type]
    load_file(second, path, LoadResult(), bookmark=bookmark)  # type: ignore[arg-type]
    assert (len(first.sent), second.sent[0]) == (2 * BATCH_EVENTS, str(2 * BATCH_EVENTS))
    assert first.sent + second.sent == [str(n) for n in range(3 * BATCH_EVENTS)]
    again = Dying(9)
    load_file(again, path, LoadResult(), bookmark=bookmark)  # type: ignore[arg-type]
    assert len(again.sent) == 3 * BATCH_EVENTS, "once it is through, the position is forgotten"


def test_a_position_belongs_to_one_content(tmp_path: Path) -> None:
    Bookmark(tmp_path, "x", [1]).write(7)
    assert Bookmark(tmp_path, "x", [1]).read() == 7
    assert Bookmark(tmp_path, "x", [2]).read() is None
    assert Bookmark(tmp_path, "y", [1]).read() is None
    with pytest.raises(LoadError, match="x: an interrupted load used other options"):
        Bookmark(tmp_path, "x", [1], {"delimiter": ";"}).read()


def test_a_load_is_resumed_with_the_options_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("type,n\n" + "a,1\n" * 2000)
    as_text, as_number = (FileOptions(parse_mapping(["type=type", f"context.n={n}"])) for n in ("n", "n:int"))
    interrupted = file_bookmark(tmp_path / "load", path, as_text)
    assert interrupted is not None
    with pytest.raises(DeliveryError):
        load_file(Dying(1), path, LoadResult(), options=as_text, bookmark=interrupted)  # type: ignore[arg-type]
    other = file_bookmark(tmp_path / "load", path, as_number)
    same = file_bookmark(tmp_path / "load", path, as_text)
    assert other is not None
    assert same is not None
    with pytest.raises(LoadError, match="other options"):
        other.read()
    assert same.read() == BATCH_EVENTS + 1  # the first line is the header
    other.remove()
    assert same.read() is None


def test_a_row_is_an_event_of_each_type_that_mappings_make_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("page,n\n/,1\n/,1\n")

    def ids(*mapping: str) -> list[str]:
        return [bson.decode(each.event)["id"] for each in read(path, FileOptions(parse_mapping(mapping)))]

    visits, clicks = ids("type==visit", "context.page=page"), ids("type==click", "context.page=page")
    assert len({*visits, *clicks}) == 4
    assert ids("type==visit", "context.n=n:int") == visits


@pytest.fixture
def command(settings: Any, mongo_uri: str, database: Database[Any], tmp_path: Path, ingester: RunningIngester) -> Any:
    """Run a command against the ingester; return what it printed and its error text."""
    changes = {"home": tmp_path / "home", "mongo_uri": mongo_uri, "mongo_database": database.name}
    settings.ZARKOV = settings.ZARKOV.model_copy(update=changes)

    def run(*arguments: Any, **options: Any) -> tuple[str, str]:
        out, error = io.StringIO(), io.StringIO()
        try:
            call_command(*arguments, **options, address=ingester.address("ack"), stdout=out, stderr=error, verbosity=0)
        except SystemExit as stopped:
            return out.getvalue(), f"{stopped.code}: {error.getvalue()}"
        return out.getvalue(), error.getvalue()

    return run


def test_loadevents_goes_on_after_a_file_that_cannot_be_read(
    command: Any, database: Database[Any], tmp_path: Path
) -> None:
    good = [write(tmp_path / f"{name}.jsonl", f'{{"type": "{name}"}}\n') for name in "ab"]
    broken = write(tmp_path / "broken.json", '[{"type": "first"}, {"type"')
    with pytest.raises(CommandError, match=r"broken\.json: .*ends inside it.* \(3 events accepted, 0 refused\)"):
        command("loadevents", str(tmp_path / "none"), str(good[0]), str(broken), str(good[1]))
    eventually(lambda: sorted(e["type"] for e in database["event"].find()) == ["a", "b", "first"])
    with pytest.raises(CommandError, match="No such file"):
        command("loadevents", str(tmp_path / "none"), str(write(tmp_path / "c.jsonl", '{"type": "c"}\n')), strict=True)
    assert database["event"].count_documents({"type": "c"}) == 0


def test_loadevents_counts_bad_lines_and_strict_stops_at_the_first(
    command: Any, database: Database[Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "x.csv", "kind,n\na,1\nb,2\n,3\n" + "c\n" * 12)
    printed, error = command("loadevents", str(path), map=["type=kind", "context.n=n:int"])
    assert printed == "2 events accepted, 13 refused\n"
    assert error.startswith("1: ")
    assert f"{path}, 5: 1 cells; the header has 2" in error
    assert "and 3 more" in error
    with pytest.raises(CommandError, match=r"x\.csv, 4: missing_type.*--strict stops here"):
        command("loadevents", str(write(path, 'kind\na\nb\n""\n')), map=["type=kind"], strict=True)

    def loaded() -> list[str]:
        return sorted(e["type"] for e in database["event"].find({"context.n": {"$exists": True}}))

    eventually(lambda: loaded() == ["a", "b"])


def test_loadevents_reads_a_file_whose_name_is_not_utf_8(command: Any, database: Database[Any], tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xe4me.jsonl")
    path = write(tmp_path / name, '{"type": "a"}\n{"typ": "b"}\n')
    printed, error = command("loadevents", str(path))
    assert printed == "1 events accepted, 1 refused\n"
    assert r"n\xe4me.jsonl, 2: unknown_field" in error
    with pytest.raises(CommandError, match=r"n\\xe4me\.jsonl, 2: .*--strict stops here"):
        command("loadevents", str(path), strict=True)
    with pytest.raises(CommandError, match=r"n\\xe4me\.jsonl1: No such file"):
        command("loadevents", f"{path}1")


def test_importevents_imports_the_events_of_2011_once(command: Any, database: Database[Any], mongo_client: Any) -> None:
    other = mongo_client[f"{database.name}_2011"]
    try:
        old = [{"_id": ObjectId(), "type": "a", "context": {"n": n}, "jobs": [], "aggregates": ["x"]} for n in range(5)]
        other["event"].insert_many(
            [*old, {"_id": 7, "type": "b", "timestamp": datetime(2011, 7, 1, tzinfo=UTC)}, {"_id": 8}]
        )
        other["out"].insert_many([{"_id": "k", "value": {"type": "c"}}, {"_id": "l", "value": 3}])
        for _ in range(2):
            printed, error = command("importevents", other.name, "event")
            assert printed == "6 events accepted, 1 refused\n"
            assert "missing_type" in error
        printed, error = command("importevents", other.name, "out", value=True)
        assert printed == "1 events accepted, 1 refused\n"
        assert "value is int" in error
        with pytest.raises(CommandError, match="has no documents"):
            command("importevents", other.name, "nothing")
        with pytest.raises(CommandError, match="own events"):
            command("importevents", database.name, "event.1")
        eventually(lambda: sums(database) == {"stored": 7, "duplicates": 7, "quarantined": 1})
        found = list(database["event"].find({"type": "a"}))
        assert sorted(e["context"]["n"] for e in found) == list(range(5))
        assert {e["timestamp"] for e in found} == {e["_id"].generation_time for e in old}
        assert all(set(e) == {"_id", "type", "context", "timestamp", "id"} for e in found)
    finally:
        mongo_client.drop_database(other.name)


def test_an_import_keeps_the_bytes_of_what_an_event_holds(mongo_client: Any, database: Database[Any]) -> None:
    held = {"b": bson.Int64(1), "a": {"$ref": "users", "$id": 1}, "list": [{"x": 1, "$id": 2, "$ref": "c"}]}
    database["old"].insert_one({"_id": 1, "type": "x", "extra": held, "jobs": []})
    database["old"].insert_one({"_id": 2, "value": {"extra": held, "type": "x"}})
    plain, wrapped = (list(collection_import.read(database["old"], value=value)) for value in (False, True))
    element = bson.encode({"extra": held})[4:-1]
    assert plain[0].event.count(element) == wrapped[1].event.count(element) == 1
    assert (plain[0].fault, wrapped[1].fault) == ("", "")
    assert set(bson.decode(wrapped[1].event)) == {"extra", "type", "id"}


def test_an_import_resumes_from_any_kind_of_id(mongo_client: Any, database: Database[Any]) -> None:
    database["old"].insert_many(
        [{"_id": key, "type": "x"} for key in (1, 2.5, "a", "b", ObjectId(), datetime(2011, 7, 1, tzinfo=UTC))]
    )
    keys: list[str] = []
    lines = list(collection_import.read(database["old"], on_key=keys.append))
    assert len(lines) == 6
    for place, key in enumerate(keys):
        rest = list(collection_import.read(database["old"], after=key))
        assert [line.event for line in rest] == [line.event for line in lines[place:]]


def test_documents_of_a_view_without_ids_are_refused_since_equal_ones_would_be_stored_once(
    database: Database[Any],
) -> None:
    database["old"].insert_many([{"type": "x"}, {"type": "x"}])
    database.create_collection("bare", viewOn="old", pipeline=[{"$project": {"_id": 0}}])
    lines = list(collection_import.read(database["bare"]))
    assert ["has no _id" in line.fault for line in lines] == [True, True]


def test_equal_events_of_a_dump_without_ids_are_stored_each_and_once(
    command: Any, database: Database[Any], tmp_path: Path
) -> None:
    raw = bson.encode({"type": "x", "extra": 1}) * 3
    for name in ("x.bson", "other.bson"):
        assert command("loadevents", str(write(tmp_path / name, raw)))[0] == "3 events accepted, 0 refused\n"
    command("loadevents", str(write(tmp_path / "more.bson", bson.encode({"type": "y"}))))
    eventually(lambda: database["event"].count_documents({"type": "y"}) == 1)
    assert database["event"].count_documents({"type": "x"}) == 3


def test_events_of_a_dump_without_ids_are_checked_as_others_are(
    command: Any, database: Database[Any], tmp_path: Path
) -> None:
    bad = [{"extra": 1}, {"type": "x", "more": 1}, {"$command": "echo", "type": "x"}, {"type": "x", "id": ""}]
    good = [{"type": "x", "id": "own"}, {"$command": "event_noval", "more": 1}, {"type": "x"}]
    path = write(tmp_path / "x.bson", b"".join(map(bson.encode, bad + good)))
    printed, error = command("loadevents", str(path))
    assert printed == "3 events accepted, 4 refused\n"
    for word in ("1: missing_type", "2: unknown_field", "3: $command is not one", "4: bad_id"):
        assert f"{path}, {word}" in error
    eventually(lambda: database["event"].count_documents({}) == 3)
    assert database["event"].count_documents({"id": "own"}) == 1


def test_a_load_of_a_dump_without_ids_resumes_with_the_same_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bson.gz", bson.encode({"type": "x"}) * 4)
    whole, rest = list(read(path)), list(read(path, after=2))
    assert [line.event for line in rest] == [line.event for line in whole[2:]]
    assert len({bson.decode(line.event)["id"] for line in whole}) == 4


def test_a_dump_keeps_the_bytes_of_documents_with_and_without_ids(tmp_path: Path) -> None:
    odd = bson.encode({"type": "x", "extra": bson.datetime_ms.DatetimeMS(10**15)})
    twice = bson.encode({"type": "x"})[4:-1] * 2
    repeated = (len(twice) + 5).to_bytes(4, "little") + twice + b"\0"
    first, second, third = read(write(tmp_path / "x.bson", odd + repeated + bson.encode({"type": "x", "id": "a"})))
    assert odd[4:-1] in first.event and b"\x02id\x00" in first.event
    assert second.event.count(b"type") == 2  # which the ingester refuses
    assert third.event == bson.encode({"type": "x", "id": "a"})


def test_a_length_that_no_document_has_ends_a_dump(tmp_path: Path) -> None:
    raw = bson.encode({"type": "x"})
    path = write(tmp_path / "x.bson", raw + (2**31 - 1).to_bytes(4, "little") + bytes(100))
    found = []
    with pytest.raises(LoadError, match=r"2147483647 bytes begins here, or the file is damaged"):
        found.extend(read(path))
    assert bson.decode(next(iter(read(path))).event)["type"] == "x"


def test_a_dump_keeps_dates_that_python_cannot_read(tmp_path: Path) -> None:
    raw = bson.encode({"_id": 1, "type": "x", "extra": bson.datetime_ms.DatetimeMS(10**15)})
    found: list[NumberedEvent] = list(read(write(tmp_path / "event.1.bson.gz", raw)))
    assert found[0].fault == ""
    assert (10**15).to_bytes(8, "little") in found[0].event
    with pytest.raises(LoadError, match="ends inside"):
        list(read(write(tmp_path / "cut.bson", raw[:-1])))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["context=url", "context.page=url"], "context and context.page exclude each other"),
        (["extra.a.b=url", "extra.a=url"], r"extra.a and extra.a.b exclude each other"),
        (["context.page=url", "context.page==x"], "context.page is given twice"),
    ],
)
def test_columns_that_exclude_each_other_are_refused(tmp_path: Path, mapping: list[str], message: str) -> None:
    path = write(tmp_path / "x.csv", "url\n/a\n")
    with pytest.raises(LoadError, match=message):
        list(read(path, FileOptions(parse_mapping(["type==visit", *mapping]))))
    header = write(tmp_path / "y.csv", "type,context.a,context\nx,1,2\n")
    with pytest.raises(LoadError, match=r"context and context\.a exclude each other"):
        list(read(header))


def test_a_pipe_is_refused_because_it_cannot_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadError, match="is not a regular file"):
        list(read(tmp_path / "pipe"))
