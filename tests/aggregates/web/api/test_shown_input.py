"""Whatever the input in quarantine holds, its pages are shown: half of a surrogate pair as JSON writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, MaxKey, MinKey, Regex, Timestamp
from django.template import engines
from django.test import Client
from django.urls import reverse
from pymongo.database import Database

from tests.support.web.quarantine import API, LIST, entry, key

ACCEPTED = ("application/json", "application/json; indent=4", "text/html")
HALF = rb"\ud800"
NO_UTF_8 = b"\xff\xed\xa0\x80"
INPUTS = [
    b'{"a": "\\ud800"}',
    b'{"\\ud800": {"\\ud800\\u0000": "\\u0000\\u0001\\u001b\\u0085\\u2028\\u202e\\uffff"}}',
    b'{"type": "\\ud800", "timestamp": "\\ud800"}',
    b'{"a": "\\ud800\\ud83d\\ude00"}',
    b'"\\ud800"',
    b'{"a": "' + NO_UTF_8 + b'"}',
    b'{"a":' + b"9" * 5000 + b', "b": 1e400, "c": NaN}',
    b'{"a":' * 900 + b"1" + b"}" * 900,
    bytes(range(256)),
    b"www." + b"a@" * 900 + b"(" * 900,
    bson.encode({"....": "....", "code": Code("....", {"....": 1}), "regex": Regex("....")}).replace(b"....", NO_UTF_8),
    bson.encode({"a": [MinKey(), MaxKey(), DatetimeMS(2**62), Timestamp(1, 1), Binary(b"x", 4), Decimal128("NaN")]}),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("raw", INPUTS, ids=lambda raw: f"{raw!r:.30}")
def test_refused_input_is_shown_in_every_form(
    ready: Any, staff: Callable[[str], Client], operator: Client, database: Database[Any], raw: bytes
) -> None:
    database["quarantine"].insert_one(entry(0, raw, "bad_json") | {"message": "reason \0\x1b\u202e"})
    page = reverse("admin:ingest_quarantineentry_change", args=[key(0)])
    shown = [operator.get(f"{API}{path}", headers={"accept": form}) for path in ("", f"{key(0)}/") for form in ACCEPTED]
    editor = staff("editor")
    pages = [editor.get(LIST), editor.get(page), editor.post(page, {"action": "replay", "text": raw.decode("latin-1")})]
    assert {answer.status_code for answer in shown + pages} == {200}
    if HALF in raw and raw[:1] == b"{":
        assert all(HALF in answer.content for answer in [*shown[3:], *pages[:2]])
        assert json.loads(shown[3].content) == json.loads(shown[4].content)


def test_every_template_shows_half_of_a_surrogate_pair_as_json_writes_it() -> None:
    (engine,) = engines.all()
    assert engine.from_string("{{ text }}").render({"text": "é\ud800<"}) == "é\\ud800&lt;"
    assert engine.get_template("zarkov/error.html").render({"message": "\udfff"}).encode()
