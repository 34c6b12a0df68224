"""Filters that an aggregate may have."""

from __future__ import annotations

import re

import pytest

from aggregates.definition.definition import check_filter
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
        {"timestamp": {"$gte": {"$date": "2011-07-01T00:00:00Z"}}},
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
        ({"type": {"$size": -1}}, "whole number"),
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


def test_a_filter_that_contains_itself_is_refused():
    deep: dict = {"a": 1}
    for _ in range(50):
        deep = {"$and": [deep]}
    with pytest.raises(DefinitionError, match="nested deeper"):
        check_filter(deep)
