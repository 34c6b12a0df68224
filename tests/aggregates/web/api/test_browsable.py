"""The browsable pages of the API, for each kind of viewer: the status that a program gets, as a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client

from aggregates.exceptions import LeaseHeldError
from aggregates.models import AggDef, Run
from aggregates.services import define
from aggregates.web.api import aggdefs, renderer, throttling
from aggregates.web.exceptions import BadRequestError, UnavailableError, WebError
from aggregates.web.mongo import database
from tests.support.web.configuration import configure

pytestmark = pytest.mark.django_db(transaction=True)  # streams close their connection
LOGINS = ("viewer", "operator", "editor", "admin")
TOKENS = ("ingest", "operate", "limited")
VIEWERS = [
    *((kind, False) for kind in ("nobody", "wrong token", *LOGINS, *TOKENS)),
    *((kind, True) for kind in ("nobody", "ingest", "limited")),
]
METHODS = ("get", "post", "put", "delete")
LONG_NAME = "a/" * 1900 + "b"
PAGES = (
    "", "events/", "aggdefs/", "aggdefs/mine/", "aggdefs/mine/run/", "runs/", "runs/some-run/",
    "runs/some-run/cancel/", "tasks/", "jobs/", "jobs/none/cancel/", "quarantine/",
    "quarantine/counts/", "quarantine/replay/", "quarantine/j.1.1/", "collections/", "series/a/", "series/secret/",
    "series/none/", f"series/{LONG_NAME}/", "ranked/a/", f"ranked/{LONG_NAME}/",
)  # fmt: skip
OTHERS = ("export/a.csv", "export/a.none", "live/a/", "quarantine/j.1.1/raw/", "none/")  # have one form each


@pytest.fixture
def content(closed_site: Any, aggregate: Callable[..., None]) -> Any:
    for name in ("a", "secret"):
        aggregate(name, {"x/2024-01-01": 1})
    mine = define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay")
    Run.objects.create(uid="some-run", aggdef=mine, mode="full", origin="api", state="complete")
    return closed_site


@pytest.mark.parametrize(
    "accept", ["text/html; q*=x; q*0=y, application/json", "application/json; indent*0=x; indent*=y, */*"]
)
def test_a_media_type_with_an_extended_parameter_is_not_chosen(content: Any, viewer: Any, accept: str) -> None:
    answer = viewer("operate").get("/api/v1/aggdefs/mine/", headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"], answer.json()["name"]) == (200, "application/json", "mine")


@pytest.fixture
def viewer(content: Any, token_client: Callable[..., Client]) -> Callable[[str], Client]:
    """Return a function that makes the client of a kind of viewer."""

    def make(kind: str) -> Client:
        if kind == "limited":
            return token_client("read", collections=["a"])
        if kind in TOKENS:
            return token_client(kind)
        client = Client(headers={"authorization": "Token wrong"} if kind == "wrong token" else {})
        if kind in LOGINS:
            user = get_user_model().objects.create_user(kind, is_superuser=kind == "admin")
            user.groups.add(*Group.objects.filter(name=kind))
            client.force_login(user)
        return client

    return make


def answer_of(client: Client, method: str, path: str, accept: str) -> Any:
    """Return the answer to a request whose body is no use to any endpoint; the client raises what is not handled."""
    body = {"data": "{}", "content_type": "application/json"} if method in ("post", "put", "patch", "delete") else {}
    found = getattr(client, method)(f"/api/v1/{path}", headers={"accept": accept}, **body)
    if path == "aggdefs/mine/" and method == "delete" and not AggDef.objects.filter(name="mine").exists():
        define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay")
    found.close()
    return found


@pytest.mark.parametrize(("kind", "anonymous_read"), VIEWERS)
def test_each_viewer_gets_pages_with_the_status_that_a_program_gets(
    viewer: Callable[[str], Client], content: Any, kind: str, anonymous_read: bool
) -> None:
    configure(content, anonymous_read=anonymous_read)
    client = viewer(kind)
    wrong = []
    for path in (*PAGES, *OTHERS):
        for method in METHODS:
            page, plain = (answer_of(client, method, path, accept) for accept in ("text/html", "application/json"))
            is_page = page.headers.get("Content-Type", "text/html").startswith("text/html")
            same = page.status_code == (200 if plain.status_code == 204 else plain.status_code)  # a page has content
            if not same or page.status_code == 500 or (path in PAGES and not is_page):
                wrong.append((method, path[:40], page.status_code, plain.status_code))
    assert wrong == []


FAILURES = [kind("too bad") for kind in WebError.__subclasses__()] + [UnavailableError("too bad"), LeaseHeldError("x")]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_an_error_of_a_view_has_the_same_status_and_text_on_a_page(
    viewer: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(aggdefs.services, "get_aggdef", fail)
    client = viewer("viewer")
    page, plain = (answer_of(client, "get", "aggdefs/mine/", accept) for accept in ("text/html", "application/json"))
    assert page.status_code == plain.status_code == getattr(error, "status", 409)
    assert plain.json()["error"].keys() == {"code", "message", "details"}
    assert plain.json()["error"]["code"] in page.content.decode()
    assert page.headers.get("Retry-After") == plain.headers.get("Retry-After")


def test_a_page_says_that_there_are_too_many_requests(
    viewer: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling.ScopeThrottle, "THROTTLE_RATES", {"api": "0/min"})
    page = answer_of(viewer("viewer"), "get", "collections/", "text/html")
    assert (page.status_code, "throttled" in page.content.decode()) == (429, True)
    assert int(page.headers["Retry-After"]) <= 61


def test_an_error_of_ours_is_one_of_the_rest_framework() -> None:
    error = BadRequestError("x = 3 is not allowed", parameter="x")
    assert (error.status_code, str(error), error.get_codes()) == (400, "x = 3 is not allowed", "bad_request")
    assert error.body() == {
        "error": {"code": "bad_request", "message": "x = 3 is not allowed", "details": {"parameter": "x"}}
    }


def test_a_page_shows_the_start_of_a_long_answer(viewer: Callable[[str], Client]) -> None:
    database()["zagg.a"].insert_many({"_id": f"y/{number}", "value": number} for number in range(9_000))
    page = answer_of(viewer("viewer"), "get", "series/a/", "text/html")
    assert page.status_code == 200
    assert "more characters: send the header Accept: application/json" in page.content.decode()
    assert len(page.content) < 3 * renderer.MAX_SHOWN_CHARS
