"""MongoDB's extended JSON in both versions, as mongoexport and drivers write it."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.wire.json_value import loads
from ingest.wire.refusal import RefusedValueError

MOMENT = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
MOMENT_MS = 1_706_702_400_000
OID = "65ba3f5e8f1b2c3d4e5f6071"
UUID = "0fb1ee3f-9b4a-4f3c-8a3d-3d6c5f6f1a2b"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$numberInt": "-5"}', -5),
        ('{"$numberLong": "5"}', Int64(5)),
        ('{"$numberLong": "-9223372036854775808"}', Int64(-(2**63))),
        ('{"$numberLong": 5}', Int64(5)),
        ('{"$numberDouble": "1.0"}', 1.0),
        ('{"$numberDouble": "-1.5e-3"}', -0.0015),
        ('{"$numberDouble": "Infinity"}', math.inf),
        ('{"$numberDouble": "-Infinity"}', -math.inf),
        ('{"$numberDecimal": "0.10"}', Decimal128("0.10")),
        ('{"$numberDecimal": "1E+3"}', Decimal128("1E+3")),
        ('{"$date": "2024-01-31T12:00:00Z"}', MOMENT),
        ('{"$date": "2024-01-31T13:00:00.000+0100"}', MOMENT),
        (f'{{"$date": {MOMENT_MS}}}', MOMENT),
        (f'{{"$date": {{"$numberLong": "{MOMENT_MS}"}}}}', MOMENT),
        ('{"$date": {"$numberLong": "-1000"}}', dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
        ('{"$datetime": 1706702400}', MOMENT),
        (f'{{"$oid": "{OID}"}}', ObjectId(OID)),
        ('{"$binary": {"base64": "AQI=", "subType": "00"}}', b"\x01\x02"),
        ('{"$binary": {"base64": "AQI=", "subType": "80"}}', Binary(b"\x01\x02", 128)),
        ('{"$binary": "AQI=", "$type": "00"}', b"\x01\x02"),
        ('{"$type": "5", "$binary": "AQI="}', Binary(b"\x01\x02", 5)),
        ('{"$binary": "AQI=", "$type": "ffffff80"}', Binary(b"\x01\x02", 128)),
        (f'{{"$uuid": "{UUID}"}}', Binary.from_uuid(uuid.UUID(UUID))),
        ('{"$timestamp": {"t": 1706702400, "i": 1}}', Timestamp(1706702400, 1)),
        ('{"$regularExpression": {"pattern": "^a", "options": "im"}}', Regex("^a", "im")),
        ('{"$regex": "^a", "$options": "i"}', Regex("^a", "i")),
        ('{"$symbol": "a"}', "a"),
        ('{"$code": "f()"}', Code("f()")),
        ('{"$code": "f()", "$scope": {"a": 1}}', Code("f()", {"a": 1})),
        ('{"$minKey": 1}', MinKey()),
        ('{"$maxKey": 1}', MaxKey()),
        ('{"$undefined": true}', None),
        ('{"$dbPointer": {"$ref": "c", "$id": 1}}', {"$ref": "c", "$id": 1}),
        ('{"\\u0024numberLong": "5"}', Int64(5)),
    ],
)
def test_each_form_is_read_as_its_value_at_any_depth(text: str, value: Any) -> None:
    found = loads(f'{{"a": {text}, "b": [{{"c": {text}}}]}}')
    assert found == {"a": value, "b": [{"c": value}]}
    assert type(found["a"]) is type(value)


def test_a_nan_of_mongoexport_is_one_and_a_bare_nan_is_no_json() -> None:
    assert math.isnan(loads('{"$numberDouble": "NaN"}'))
    with pytest.raises(ValueError, match="NaN is not JSON"):
        loads('{"a": NaN}')


@pytest.mark.parametrize(
    "text",
    [
        '{"$ref": "users", "$id": 1}', '{"$ref": "users", "$id": 1, "$db": "x"}', '{"$gt": 5}', '{"$type": "string"}',
        '{"$regex": {"a": 1}}', '{"$in": [1]}', '{"$options": "i"}', '{"$": 1}', '{"$numberlong": "5"}',
    ],
)  # fmt: skip
def test_other_names_that_begin_with_a_dollar_stay_as_written(text: str) -> None:
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("$numberInt", value) for value in ("x", "", "1.0", "1_0", "٥", "+1", " 1", 2**31, str(2**31), None, True)),
        *(("$numberLong", value) for value in ("x", "1e3", "9223372036854775808", "1" * 5000, 1.5, [], True)),
        *(("$numberDouble", value) for value in ("x", "nan", "inf", "1e999", "1_0", "0x1", 1.5, "")),
        *(("$numberDecimal", value) for value in ("x", "1_0", "1" * 40, "sNaN", 1)),
        *(("$oid", value) for value in ("", OID[:-1], OID[:-1] + "g", 1, None)),
        *(("$binary", value) for value in ("AQI", {"base64": "AQI="}, {"base64": "A*", "subType": "00"},
                                           {"base64": "", "subType": "xx"}, {"base64": "", "subType": "123"}, 1)),
        *(("$uuid", value) for value in ("", UUID[:-1], f"{{{UUID}}}", 1)),
        *(("$timestamp", value) for value in (1, {"t": 1}, {"t": -1, "i": 0}, {"t": 2**32, "i": 0}, {"t": "1", "i": 1},
                                              [])),
        *(("$regularExpression", value) for value in ("a", {"pattern": "a"}, {"pattern": "a", "options": "q"})),
        *(("$minKey", value) for value in (0, "1", True, 1.0)),
        ("$symbol", 1), ("$code", 1), ("$undefined", False), ("$dbPointer", 1),
    ],
)  # fmt: skip
def test_a_malformed_value_is_refused_with_its_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(RefusedValueError) as refused:
        loads(json.dumps({"a": [{name: value}]}))
    code, message = refused.value.args
    assert code == "bad_extended_json"
    assert name in message
    assert repr(value)[:20] in message


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "", 1.5, True, None, [], {"a": 1}])
def test_a_malformed_date_has_the_code_of_dates(value: Any) -> None:
    with pytest.raises(RefusedValueError) as refused:
        loads(json.dumps({"$date": value}))
    assert refused.value.args[0] == "bad_timestamp"
    with pytest.raises(RefusedValueError) as refused:
        loads('{"$date": {"$numberLong": "999999999999999"}}')
    assert refused.value.args[0] == "date_out_of_range"


@pytest.mark.parametrize(
    "text", ['{"$numberLong": "5", "more": 1}', '{"more": 1, "$oid": "x"}', '{"$date": 1, "$x": 2}']
)
def test_a_known_name_stands_alone_in_its_object(text: str) -> None:
    with pytest.raises(RefusedValueError, match="stands beside it"):
        loads(text)


def test_without_extended_json_only_our_own_dates_are_read() -> None:
    text = '{"a": {"$numberLong": "x"}, "b": {"$datetime": 0}, "c": {"$date": 1}}'
    assert loads(text, extended=False) == {
        "a": {"$numberLong": "x"}, "b": dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "c": {"$date": 1},
    }  # fmt: skip


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1).map(Int64), st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False) | st.just(math.nan),  # JSON has no bits for the sign and payload of a NaN
    st.text(max_size=5), st.binary(max_size=5), st.uuids().map(Binary.from_uuid), st.just(ObjectId(OID)),
    st.datetimes().map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=dt.UTC)
    ),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.decimals(-(10**20), 10**20, places=3).map(str).map(Decimal128),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("a"), inner)))
def test_what_the_driver_writes_is_read_as_the_same_bytes(value: Any) -> None:
    written = json_util.dumps({"a": value}, json_options=json_util.CANONICAL_JSON_OPTIONS)
    assert bson.encode(loads(written)) == bson.encode({"a": value})
