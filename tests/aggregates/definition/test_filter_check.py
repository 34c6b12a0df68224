"""Filters that an aggregate may have."""

from __future__ import annotations

import re

import pytest
from pymongo.errors import OperationFailure

from aggregates.definition.definition import check_filter
from aggregates.definition.filter_check import TYPES
from aggregates.exceptions import DefinitionError


@pytest.mark.parametrize(
    "allowed",
    [
        {},
        {"type": "commit"},
        {"type": {"$in": ["a", "b"]}, "extra.n": {"$gte": 1, "$lt": 5}},
        {"$or": [{"type": "a"}, {"$and": [{"extra.n": {"$exists": True}}, {"type": {"$ne": "b"}}]}]},
        {"context": {"project": "p"}},
        {"type": {"$regex": "^a", "$options": "i"}},
        {"type": re.compile("^a")},
        {"type": {"$not": {"$regex": "^a"}}},
        {"extra.tags": {"$elemMatch": {"$gt": 1, "$lt": 5}, "$size": 2, "$all": ["a"]}},
        {"extra.items": {"$elemMatch": {"n": {"$mod": [2, 0]}, "$or": [{"a": 1}, {"b": {"$type": "string"}}]}}},
        {"type": {"$regex": "^a", "$nin": ["ab"], "$ne": "ac"}},
        {"type": {"$not": {"$regex": "^a", "$options": "i", "$ne": "b"}}},
        {"type": {"$in": [{"$regex": "^a"}, "b"]}},
        {"extra.owner": {"$ref": "users", "$id": 1}},
        {"extra.owner": {"$in": [{"$ref": "users", "$id": 1, "$db": "d"}]}},
        {"extra.at": {"$datetime": 5}},
        {"timestamp": {"$gte": {"$date": "2011-07-01T00:00:00Z"}}},
        *({"a": {"$type": kind}} for kind in sorted(TYPES, key=str)),
        {"a": {"$type": ["string", 2]}},
        {"a": {"$bitsAllSet": 2**40}},
        {"a": {"$bitsAnyClear": [0, 70]}},
        {"a": {"$bitsAnySet": {"$binary": {"base64": "AQID", "subType": "00"}}}},
    ],
)
def test_filters_that_mongodb_accepts_are_allowed(allowed, database):
    query = check_filter(allowed)
    list(database["nothing"].find(query))


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ({"type": {"$nonsense": 1}}, r"\$nonsense is not allowed at a field"),
        ({"$nonsense": 1}, r"\$nonsense is not allowed at the top"),
        ({"type": {"$and": [{}]}}, r"\$and is not allowed at a field"),
        ({"$or": []}, r"\$or needs a list"),
        ({"$or": {"type": "a"}}, r"\$or needs a list"),
        ({"$or": ["type"]}, "not a document of conditions"),
        ({"$and": [{"_id": 3}]}, "_id is not allowed"),
        ({"type": {"$in": "a"}}, r"type: \$in needs a list"),
        ({"type": {"$in": [{"$gt": 1}]}}, "needs values"),
        ({"type": {"$gt": 1, "a": 2}}, "mixes operators"),
        ({"type": {"$exists": "yes"}}, "true or false"),
        ({"type": {"$regex": 5}}, "needs a string"),
        ({"type": {"$options": "i"}}, "imsx"),
        ({"type": {"$regex": "a", "$options": "q"}}, "imsx"),
        ({"type": {"$regex": "a", "$nonsense": 1}}, r"\$nonsense is not allowed at a field"),
        ({"type": {"$regex": "a", "b": 1}}, "mixes operators"),
        ({"type": {"$in": [{"$regex": "a", "$ne": "b"}]}}, "needs values"),
        ({"type": {"$undefined": True, "$ne": 1}}, "stands alone"),
        ({"type": {"$binary": "AQID", "$type": "00", "$ne": 1}}, "stands alone"),
        ({"type": {"$ne": 1, "$oid": "0" * 24}}, "stands alone"),
        ({"a": {"$gt": 1, "$ref": "c", "$id": 1}}, r"\$ref is not allowed"),
        ({"type": {"$size": -1}}, "whole number"),
        *(
            ({"a": {"$type": kind}}, r"\$type needs names or numbers")
            for kind in ("text", 20, True, [], ["int", "x"], [[]])
        ),
        *(({"a": {"$bitsAllSet": bits}}, r"\$bitsAllSet needs") for bits in ("x", -1, True, [0, -1], 1.5, None)),
        ({"type": {"$mod": [0, 1]}}, "divisor"),
        ({"type": {"$not": "a"}}, "condition with operators"),
        ({"type": {"$elemMatch": 1}}, "document of conditions"),
        ({"type": {"$elemMatch": {"$where": "1"}}}, r"\$where is not allowed"),
        ({"a": {"$expr": 1}}, r"\$expr is not allowed"),
        ({"a": {"$oid": "zz"}}, "not extended JSON"),
    ],
)
def test_filters_that_mongodb_refuses_are_refused_at_once_with_the_reason(refused, words):
    with pytest.raises(DefinitionError, match=words) as caught:
        check_filter(refused)
    assert caught.value.field == "filter"


@pytest.mark.parametrize(
    "operand",
    [{"$type": "text"}, {"$type": 20}, {"$type": []}, {"$bitsAllSet": "x"}, {"$bitsAllSet": -1}, {"$bitsAnySet": [-1]}],
)
def test_operands_that_are_refused_here_mongodb_refuses_in_each_run(operand, database):
    with pytest.raises(OperationFailure):
        list(database["nothing"].find({"a": operand}))


def test_a_filter_that_contains_itself_is_refused():
    deep: dict = {"a": 1}
    for _ in range(50):
        deep = {"$and": [deep]}
    with pytest.raises(DefinitionError, match="nested deeper"):
        check_filter(deep)


TYPES = ["crz1", "crz2", "inner", "inner2", "hang", "CRZ3"]


@pytest.mark.parametrize(
    "condition",
    [
        {"$regex": "^crz|^inner", "$nin": ["inner", "hang"]},
        {"$nin": ["inner"], "$regex": "^crz|^inner"},
        {"$regex": "^crz", "$ne": "crz1", "$options": "i"},
        {"$regex": "^c", "$not": {"$regex": "2$"}},
        {"$not": {"$regex": "^crz", "$options": "i"}},
        {"$elemMatch": {"$regex": "^crz", "$ne": "crz1"}},
        {"$regex": "^crz"},
    ],
)
def test_every_condition_beside_a_regular_expression_counts(condition, database):
    found = database["regex"]
    found.insert_many([{"_id": n, "type": kind} for n, kind in enumerate(TYPES)])
    found.insert_many([{"type": ["crz1"]}, {"type": ["crz2"]}])
    right = found.count_documents({"type": condition})
    assert found.count_documents(check_filter({"type": condition})) == right
    assert 0 < right < len(TYPES) + 2


@pytest.mark.parametrize("reference", [{"$ref": "c", "$id": 1}, {"$ref": "c", "$id": 1, "$db": "d"}])
def test_a_reference_in_a_filter_finds_the_documents_that_hold_it(reference, database):
    found = database["references"]
    found.insert_many([{"owner": reference}, {"owner": {"$ref": "c", "$id": 2}}, {"owner": 1}])
    query = check_filter({"owner": reference})
    assert type(query["owner"]) is dict
    assert found.count_documents(query) == found.count_documents({"owner": reference}) == 1
