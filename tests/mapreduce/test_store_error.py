"""Messages for failures of MongoDB."""

from __future__ import annotations

import pytest
from pymongo.errors import BulkWriteError, OperationFailure

from mapreduce.exceptions import from_document, lacks_right
from mapreduce.store_error import as_engine_error


def test_a_refusal_is_reported_in_mongodbs_words_without_its_whole_reply() -> None:
    reply = {"ok": 0.0, "errmsg": "unknown operator: $nonsense", "code": 2, "$clusterTime": b"\xd7\x00"}
    error = as_engine_error(OperationFailure("unknown operator: $nonsense", 2, reply))
    assert str(error) == "MongoDB refused: unknown operator: $nonsense (code 2)"
    assert "nothing told" in str(as_engine_error(OperationFailure("nothing told", 2)))


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (OperationFailure("not authorized on db to execute command", 13), True),
        (OperationFailure("user is not allowed to do action [update]", 8000), True),
        (OperationFailure("bad value", 2), False),
        (OperationFailure("Authentication failed.", 18), False),  # temporary: a password is being changed
        (BulkWriteError({"writeErrors": [{"code": 11000, "errmsg": "E11000"}, {"code": 13, "errmsg": "no"}]}), True),
        (BulkWriteError({"writeErrors": [{"code": 121, "errmsg": "Document failed validation"}]}), False),
    ],
)
def test_a_login_without_a_right_is_told_from_a_bad_request_also_behind_the_wire(error: Exception, lacks: bool) -> None:
    known = as_engine_error(error)
    assert known is not None
    assert lacks_right(from_document(known.to_document())) == lacks
