"""Where each JSON value of a text ends: the same for sockets, HTTP, files and zsend, and in linear time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.http import receiver
from ingest.load import file_format, line_reader
from ingest.load.json_stream import checked_messages
from ingest.wire import json_reader, value_ends
from ingest.wire.batch import ReceivedBatch
from ingest.wire.json_lines import BROKEN_OFF_OBJECTS, depth_change, lines_of, split_lines
from ingest.wire.json_reader import decoded

Read = Callable[[bytes], list[str]]
BAD = "bad"


def by_socket(text: bytes) -> list[str]:
    found = json_reader.split_message(text)
    batch = ReceivedBatch("json")
    json_reader.read_message(text, batch, 0)
    refused = {refusal.index for refusal in batch.refusals}
    types = iter([bson.decode(event)["type"] for event in batch.events])
    return [BAD if each.index in refused else next(types) for each in found]


def by_http(text: bytes) -> list[str]:
    found = []
    for each in receiver._read(text):
        try:
            found.append(bson.decode(receiver._encode(each.value))["type"] if each.fault is None else BAD)
        except (ValueError, KeyError):
            found.append(BAD)
    return found


def by_zsend(text: bytes) -> list[str]:
    found = checked_messages(io.BufferedReader(io.BytesIO(text)))  # type: ignore[arg-type]
    return [BAD if message.fault else bson.decode(message.to_bson())["type"] for message in found]


def by_file(path: Path) -> Read:
    def read(text: bytes) -> list[str]:
        path.write_bytes(text)
        return [BAD if line.fault else bson.decode(line.event).get("type", BAD) for line in file_format.read(path)]

    return read


def readers(folder: Path) -> dict[str, Read]:
    return {"socket": by_socket, "http": by_http, "file": by_file(folder / "x.json"), "zsend": by_zsend}


def pretty(type_: str, indent: int = 2) -> str:
    return json.dumps({"type": type_, "extra": [{"a": 1}, {"type": "inner"}, {"b": "} ]"}]}, indent=indent)


A, B, C = (f'{{"type":"{name}"}}' for name in "abc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # One object, whatever its lines look like
        (f'{{"type":"a","extra":[\n{B}\n]}}\n', ["a"]),
        (f'{{"type":"a","extra":\n{B}\n}}\n{C}', ["a", "c"]),
        (f'{{"type":"a","extra":[\n{B}\n,\n{B},\n{B}\n]}}', ["a"]),
        (f'{{"type":"a","extra":[\n{B},\n{B},\n{B},\n{B}\n]}}\n{C}', ["a", "c"]),
        (f'{{\n\n"type":"a"\n\n}}\n{B}', ["a", "b"]),
        ('{"type":"a","extra":{"t":"}","u":{"v":1}\n}}\n' + B, ["a", "b"]),
        ('{"type":"a","extra":"{"\n}\n' + B, ["a", "b"]),
        ('{"type":"a","extra":"\\"}{[\\\\"\n}\n' + B, ["a", "b"]),
        # Several, each on several lines
        (f"{pretty('a')}\n{pretty('b')}\n", ["a", "b"]),
        (f"{pretty('a', 0)}\n{pretty('b', 0)}\n{C}\n{pretty('d', 0)}", ["a", "b", "c", "d"]),
        (f"\ufeff{pretty('a')}\n\ufeff{pretty('b')}\n", ["a", "b"]),
        # One with a mistake is one refusal
        (pretty("a").replace("\n}", ",\n}") + f"\n{B}", [BAD, "b"]),
        (pretty("a", 0).replace("\n}", ",\n}") + f"\n{B}", [BAD, "b"]),
        (pretty("a").replace('"a",', '"a"') + f"\n{B}", [BAD, "b"]),
        (pretty("a").replace("1", "NaN") + f"\n{B}", [BAD, "b"]),
        (pretty("a").replace('"extra"', "'extra'") + f"\n{pretty('b')}", [BAD, "b"]),
        (pretty("a").replace('"type": "a"', 'type: "a"') + f"\n{pretty('b')}", [BAD, "b"]),
        (pretty("a").replace('"a"', '"a') + f"\n{pretty('b')}", [BAD, "b"]),
        (pretty("a").replace('"type": "a"', '"type": "a", // {') + f"\n{B}\n{B}\n{B}", [BAD, "b", "b", "b"]),
        (pretty("a") + f",\n{pretty('b')},\n{C}", [BAD, BAD, "c"]),
        (f'{{"type":"a","extra":[\n{B}\n],}}\n{C}', [BAD, "c"]),
        (f'{{"type":"a","extra":[\n{B}\n{B}\n]}}\n{C}', [BAD, "c"]),
        (f"{A} {B}\n{C}", [BAD, "c"]),
        # One that is broken off leaves what follows alone
        (f' {{"type":"a","extra":{{\n {B}\n {C}\n', [BAD, "b", "c"]),
        (f'{{"type":"a","extra":{{\n\ufeff{B}\n\ufeff{C}\n', [BAD, "b", "c"]),
        (f'{{"type":"a","extra":[\n{B}\n{C}', [BAD, "b", "c"]),
        (f'{{"type":"a","extra":"x\n{B}\n{C}', [BAD, "b", "c"]),
        (f'{{"type":"a","extra":"x\n{{b"}}\n{C}', [BAD, "c"]),
        (f'{{"type":"a",\n{B}\n{{"type":"a",\n{C}\n', [BAD, "b", BAD, "c"]),
        (f"{pretty('a')[:-2]}\n{pretty('b')}\n{C}", [BAD, "b", "c"]),
        (f"{pretty('a')[:-20]}\n{pretty('b')}\n" * 4, [BAD, "b"] * 4),
        (f'{A}\n{pretty("b")}\n{{"type":"x","extra":[', ["a", "b", BAD]),
        (f'{{"type":"a","extra":[\n{B}\n{C}\n' + f"{B}\n]}}\n", [BAD, "b", "c", "b", BAD]),
        # Lines that are no objects are refused one by one
        (f"}}\n{A}\n}}}}}}\n{B}", [BAD, "a", BAD, "b"]),
        (f"text {{\n[INFO {{\n{A}\n", [BAD, BAD, "a"]),
        (f"7\n{A}\n[1]\nnull\n{B}", [BAD, "a", BAD, BAD, "b"]),
        (f"{A}\n[1,\n2]\n{B}", ["a", BAD, "b"]),
        (f"{A},\n{B},\n", [BAD, BAD]),
        (f"{A}\n\n  \n{B}\n\n", ["a", "b"]),
        (f"\ufeff\n{A}\n\ufeff\n{pretty('b')}\n\ufeff\n", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_is_the_same_events_for_every_reader(tmp_path: Path, text: str, expected: list[str], end: str) -> None:
    raw = text.replace("\n", end).encode()
    assert {name: read(raw) for name, read in readers(tmp_path).items()} == dict.fromkeys(readers(tmp_path), expected)


LINE = st.sampled_from(
    [A, B, f" {C}", '{"type":"d","extra":[', '{"type":"e","extra":{"f":', "{", "}", "]}", '"type":"x"', '"type":"x",',
     ",", '"type":"{"', "", " ", f"{A},", "]", "text", '"', '\ufeff{"type":"g"}', '{"type":"h","extra":"', "}}", "é"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, min_size=1, max_size=14), st.sampled_from(["\n", "\r\n", "\r"]))
def test_readers_agree_on_any_lines(tmp_path: Path, lines: list[str], end: str) -> None:
    raw = end.join([*lines, A]).encode()
    found = {name: read(raw) for name, read in readers(tmp_path).items()}
    assert len({str(each) for each in found.values()}) == 1, found


@settings(max_examples=1_000, deadline=None)
@given(
    st.lists(LINE | st.sampled_from(["[INFO] x", '{"a":{"b":["}"]}}', "[[]]", "\ufeff", "\v"]), max_size=30),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([1, 10, 60]),
)
def test_values_are_told_apart_without_decoding_them(lines: list[str], end: str, piece_bytes: int) -> None:
    text = end.join(lines).encode()
    starts = [first for first, _, _ in split_lines(lines_of(text), lambda raw: decoded(0, raw))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_ends, "_PIECE_BYTES", piece_bytes)
        ends = list(value_ends.value_ends(text, 1_000))
        assert ends == ([*starts[1:], len(text)] if starts else [])
        whole = list(value_ends.value_ends(text, 4))[:-1]  # the last may have been cut
        assert whole == ends[: len(whole)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.recursive(st.text(max_size=4) | st.integers(), lambda each: st.lists(each) | st.dictionaries(
        st.text(max_size=3), each), max_leaves=8), min_size=1, max_size=4),
    st.sampled_from([None, 0, 1, 4]),
)  # fmt: skip
def test_objects_that_are_written_one_after_the_other_are_found_again(values: list[Any], indent: int | None) -> None:
    texts = [json.dumps({"type": "x", "extra": value}, indent=indent, ensure_ascii=False) for value in values]
    found = json_reader.split_message("\n".join(texts).encode())
    assert [each.value["extra"] for each in found] == values


@pytest.mark.parametrize(
    ("line", "change"),
    [("{", 1), ("}}", -2), ('{"a":"}{', 1), ('{"a\\"}": [', 2), ('"}"', 0), ('"\\', 0), ('{"a":"\\\\"}', 0), ("{'", 1)],
)
def test_brackets_in_texts_do_not_count(line: str, change: int) -> None:
    assert depth_change(line.encode() + b"\r\n") == change


def test_a_stream_is_not_held_back_for_long_by_an_object_that_is_broken_off() -> None:
    taken = 0

    def lines() -> Any:
        nonlocal taken
        for number, line in enumerate([b'{"type":"a","extra":[\n', *[A.encode()] * 20]):
            taken = number
            yield number, line

    found = split_lines(lines(), lambda raw: decoded(0, raw))
    assert next(found).value.fault is not None  # type: ignore[union-attr]
    assert next(found).value.fault is None  # type: ignore[union-attr]
    assert taken == BROKEN_OFF_OBJECTS


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        '{"a":{\n',
        "{\n",
        f'{{"a":[\n{A}\n',
        '{"a":"\n',
        '"\\"\\"\\"\\\n',
        f'{{"a":\n{A}\n{A}\n',
        "[\n",
        f"{A},\n",
        "{\n}\n",
    ],
)
def test_the_time_grows_with_the_length_of_the_text(unit: str) -> None:
    text = unit.encode() * (200_000 // len(unit))
    assert sum(1 for _ in split_lines(enumerate(text.splitlines(keepends=True)), lambda raw: decoded(0, raw))) > 0
    assert list(json_reader.split_message(b"{\n" + text))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7])
def test_lines_end_with_any_line_break_wherever_a_file_is_cut(
    monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(line_reader, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(line_reader, "MAX_LINE", 4)
    file = io.BufferedReader(io.BytesIO(b"ab\r\n\r\n\rcd\n\nefghij\rkl\rlonger"))  # type: ignore[arg-type]
    found = [(number, line.strip() if line is not None else None) for number, line in line_reader.byte_lines(file)]
    assert found == [(1, b"ab"), (2, b""), (3, b""), (4, b"cd"), (5, b""), (6, None), (7, b"kl"), (8, None)]
