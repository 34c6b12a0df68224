"""Messages for failures of MongoDB."""

from __future__ import annotations

from pymongo.errors import OperationFailure

from mapreduce.store_error import as_engine_error


def test_a_refusal_is_reported_in_mongodbs_words_without_its_whole_reply() -> None:
    reply = {"ok": 0.0, "errmsg": "unknown operator: $nonsense", "code": 2, "$clusterTime": b"\xd7\x00"}
    error = as_engine_error(OperationFailure("unknown operator: $nonsense", 2, reply))
    assert str(error) == "MongoDB refused: unknown operator: $nonsense (code 2)"
    assert "nothing told" in str(as_engine_error(OperationFailure("nothing told", 2)))
