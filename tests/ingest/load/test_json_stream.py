"""Objects of a stream: where each ends, and which the ingester would refuse."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import bson
import pytest

from ingest.exceptions import LoadError
from ingest.load.json_stream import checked_messages
from tests.support.ingest.tar_archive import KINDS, tar_of


def read(data: bytes | str) -> list[tuple[int, Any]]:
    """Return the number of each message with its type, or with the start of its fault."""
    raw = data.encode() if isinstance(data, str) else data
    return [
        (message.number, message.fault[:20] or json.loads(message.text)["type"])
        for message in checked_messages(io.BufferedReader(io.BytesIO(raw)))  # type: ignore[arg-type]
    ]


def pretty(type_: str) -> str:
    return json.dumps({"type": type_, "extra": [{"a": 1}, {"a": "} ]"}]}, indent=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type": "a"}\n\n{"type": "b"}', [(1, "a"), (3, "b")]),
        (f"{pretty('a')}\n{pretty('b')}\n", [(1, "a"), (12, "b")]),
        ('{"type": "a", "extra":\n{"type": "b"}\n', [(1, "line 1 is not a JSON"), (2, "b")]),
        ('{"type": "a"}}\n{"type": "b"}', [(1, "line 1 is not a JSON"), (2, "b")]),
        ('{"type": "a"} {"type": "b"}\n', [(1, "line 1 is not a JSON")]),
        ('{"type": "a", "extra": "\n{"type": "b"}', [(1, "line 1 is not a JSON"), (2, "b")]),
        ('{"type": "a"', [(1, "line 1 is not a JSON")]),
        ("[1]\n7\n", [(1, "line 1 is a JSON lis"), (2, "line 2 is a JSON int")]),
        ('{"$command": "event_noval", "typ": "x", "type": "a"}', [(1, "a")]),
        ('{"$command": "refused", "type": "a"}', [(1, "line 1: unknown_comm")]),
        *(
            (f'{{"type":"a","$command":{value}}}\n{{"type":"b"}}', [(1, "line 1: unknown_comm"), (2, "b")])
            for value in ('["x"]', '{"a":1}', "7", "true", "null", '{"$oid":"5f8f8c8e8f8f8c8e8f8f8c8e"}')
        ),
        ('{"type":"a","$command":"event_noval"}\r{"type":"b"}\r', [(1, "a"), (2, "b")]),
        ("", []),
    ],
)
def test_objects_are_told_apart(text: str, expected: Any) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("packed", "name"),
    [
        (gzip.compress(b'{"type": "a"}\n', mtime=0), "gzip"),
        *((tar_of(kind, b'{"type": "a"}\n' * 2), "tar") for kind in KINDS),
    ],
)
def test_a_packed_stream_is_refused_before_anything_is_sent(packed: bytes, name: str) -> None:
    with pytest.raises(LoadError, match=f"the input is packed with {name}: unpack it first"):
        read(packed)
    assert read(b'BZhello\n{"type": "a"}') == [(1, "line 1 is not a JSON"), (2, "a")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_stream_is_read_in_the_encoding_of_its_mark(encoding: str) -> None:
    assert read('{"type": "é"}\n\ufeff{"type": "b"}\n'.encode(encoding)) == [(1, "é"), (2, "b")]
    whole = '{"type": "a"}\n{"type": "b"}'.encode("utf-16")
    assert read(whole[:-1]) == [(1, "a"), (2, "line 2 is not a JSON")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("half", ["\ud83d", "\ude00", "\ude00\ud83d"])
def test_half_of_a_surrogate_pair_takes_no_other_line_along(encoding: str, half: str) -> None:
    good, bad = '{"type": "a"}\n', f'{{"type": "{half}"}}\n'
    text = f"\ufeff{good * 3_000}{bad}{good * 3_000}{bad}"
    found = read(text.encode(encoding, "surrogatepass"))
    assert [number for number, said in found if said != "a"] == [3_001, 6_002]
    assert len(found) == 6_002


def test_a_message_is_sent_with_its_command() -> None:
    text = b'{"$command": "event_noval", "colour": "red", "timestamp": "2024-01-31"}'
    (message,) = checked_messages(io.BufferedReader(io.BytesIO(text)))  # type: ignore[arg-type]
    found = bson.decode(message.to_bson())
    assert (found["$command"], found["timestamp"].day) == ("event_noval", 31)
