"""The fields of commands that other processes send."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.int64 import Int64

from ingest.transport.notice import NOTICES
from ingest.wire import bson_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.command_check import REFUSED, command_fault

COMPLETE = {"$command": "agg_complete", "name": "daily", "through": 7, "docs": 3}
COMMITTED = {"$command": "committed", "through": 7, "count": 1}
REFUSAL = {"$command": "refused", "code": "bad_json", "message": "not JSON", "raw": b"{"}


@pytest.mark.parametrize(
    "command", [COMPLETE, COMMITTED, REFUSAL, COMPLETE | {"through": Int64(2**63 - 1), "docs": 0, "name": "é" * 256}]
)
def test_a_command_with_its_fields_has_no_fault(command: dict[str, Any]) -> None:
    assert command_fault(command) == ""


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ({"$command": "agg_complete", "name": ["x"]}, "name of agg_complete is list"),
        ({"$command": "agg_complete"}, "agg_complete has no name"),
        ({**COMPLETE, "name": {"a": 1}}, "name of agg_complete is dict"),
        ({**COMPLETE, "name": ""}, "name of agg_complete is str ''"),
        ({**COMPLETE, "name": "x\0"}, "name of agg_complete is str"),
        ({**COMPLETE, "name": "x" * 257}, "name of agg_complete is str"),
        ({**COMPLETE, "name": bson.Code("x")}, "name of agg_complete is Code"),
        ({**COMPLETE, "through": True}, "through of agg_complete is bool True"),
        ({**COMPLETE, "through": -1}, "through of agg_complete is int -1"),
        ({**COMPLETE, "through": 7.0}, "through of agg_complete is float 7.0"),
        ({**COMPLETE, "docs": None}, "docs of agg_complete is NoneType"),
        ({**COMPLETE, "more": 1}, "agg_complete has an unknown field str 'more'"),
        ({**COMMITTED, "through": "7"}, "through of committed is str '7'"),
        ({"$command": "committed", "through": 7}, "committed has no count"),
        ({**REFUSAL, "code": ["x"]}, "code of refused is list"),
        ({**REFUSAL, "code": "no such code"}, "code of refused is str 'no such code'"),
        ({**REFUSAL, "raw": "text"}, "raw of refused is str 'text'"),
        ({"$command": ["x"]}, "$command is list"),
        ({"$command": bson.Code("committed")}, "$command is Code"),
        ({}, "$command is NoneType"),
    ],
)
def test_a_missing_unknown_or_wrong_field_is_a_fault(command: dict[str, Any], fault: str) -> None:
    assert command_fault(command).startswith(fault)


def test_a_malformed_command_is_refused_and_those_beside_it_are_read() -> None:
    batch = ReceivedBatch("bson", NOTICES | {REFUSED})
    poison = bson.encode({"$command": "agg_complete", "name": ["x"]})
    bson_reader.read_messages([poison + bson.encode(COMPLETE) + bson.encode({"type": "a"})], batch, 0)
    assert [(refusal.code, refusal.raw) for refusal in batch.refusals] == [("bad_command", poison)]
    assert (batch.commands, len(batch.events)) == ([COMPLETE], 1)
