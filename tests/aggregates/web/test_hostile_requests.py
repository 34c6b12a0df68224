"""No request whatever is answered by 500: a corpus of hostile values at every address, for each kind of user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver

from aggregates.models import Chart, Dashboard, EmbedLink, Run
from aggregates.services import define
from aggregates.web import embed
from aggregates.web.api import throttling
from aggregates.web.auth.token_creation import make_token
from ingest.http import receiver
from tests.support.web.configuration import configure
from tests.support.web.hostile import (
    CONTENT_TYPES,
    FORMS,
    HEADERS,
    JSONS,
    METHODS,
    MULTIPART_TYPES,
    TEXTS,
    HostileRequest,
    status_of,
)
from tests.support.web.hostile_corpus import KINDS, KNOWN, PARAMETERS, TASK, WITH_FORM, at, once_failed
from zarkov_site.form_request import FormHandler
from zarkov_site.proxy_headers import ProxyHeaders
from zarkov_site.request_body import TextInUtf8, WholeBody

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.early]  # streams close their connection
USERS = {"nobody": 40, "viewer": 60, "token": 180, "superuser": 240}  # with at least how many requests of each kind


def sample(kind: str, user: str) -> list[HostileRequest]:
    """Return requests of a kind at equal distances, others for each user.

    The distance has no factor in common with the number of values, which recur in their order for each parameter: so
    neighbours in the sample differ in the value, and all addresses have their turn.
    """
    requests = list(KINDS[kind]())
    step = len(requests) // USERS[user]
    while math.gcd(step, len(TEXTS) * len(JSONS)) > 1:
        step -= 1
    return requests[11 * list(USERS).index(user) % step :: step]


@pytest.fixture
def application() -> Any:
    """Return the site as gunicorn calls it."""
    return ProxyHeaders(TextInUtf8(WholeBody(FormHandler())), [], None)


@pytest.fixture
def users(closed_site: Any, aggregate: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that returns the headers of a kind of user, in a site with something at every address.

    It has no ingester, for which events would wait.
    """
    monkeypatch.setattr(receiver, "TIMEOUT_S", 0.01)
    monkeypatch.setattr(
        throttling.ScopeThrottle, "THROTTLE_RATES", dict.fromkeys(("api", "ingest", "live", "operate"), "9999999/min")
    )
    aggregate("a", {"x/2024-01-01": 1, "x/2024-01-02": {"n": 2.5}, "y": None})
    mine = define(name="mine", task_name=TASK)
    Run.objects.create(uid="some-run", aggdef=mine, mode="full", origin="api", state="complete")
    chart = Chart.objects.create(slug="c", title="C", aggregate="a")
    Dashboard.objects.create(slug="d", title="D")
    link = EmbedLink.objects.create(name="x", chart=chart)
    KNOWN["/embed/X/"] = KNOWN["/embed/X/live/"] = embed.token_of(link)

    def headers(kind: str) -> Mapping[str, str]:
        if kind == "token":
            return {"HTTP_AUTHORIZATION": f"Token {make_token('t', ('ingest', 'read', 'operate'))[1]}"}
        if kind == "nobody":
            return {}
        user = get_user_model().objects.create_user(kind, is_staff=True, is_superuser=kind == "superuser")
        user.groups.add(*Group.objects.filter(name=kind))
        client = Client()
        client.force_login(user)
        cookies = {name: morsel.value for name, morsel in client.cookies.items()} | {
            django_settings.CSRF_COOKIE_NAME: "c" * 32
        }
        return {
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "HTTP_X_CSRFTOKEN": "c" * 32,
        }

    configure(closed_site, anonymous_read=False)
    return headers


def failed(application: Any, requests: Iterable[HostileRequest], as_user: Mapping[str, str]) -> list[str]:
    """Return the requests that are answered by 500."""
    return [str(request) for request in requests if status_of(application, request, as_user) == 500]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_hostile_request_is_answered_by_500(
    application: Any, users: Callable[[str], Any], kind: str, user: str
) -> None:
    """The same sample in every run; `make test-long` sends the whole corpus."""
    assert failed(application, sample(kind, user), users(user)) == []


def holds(request: HostileRequest, text: str) -> bool:
    """Return whether the text is the last parameter of a request, or a part of its path."""
    return request.path.endswith(f"={text}") or f"/{text or '%20'}/" in f"{request.path}/"


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_have_every_address_and_every_value(kind: str) -> None:
    assert get_resolver().url_patterns  # loads the pages of the admin
    requests = [request for user in USERS for request in sample(kind, user)]
    paths = {request.path.partition("?")[0] for request in requests}
    if kind in ("parameters", "bodies", "headers"):
        assert {request.path.partition("?")[0] for request in KINDS[kind]()} <= paths
    if kind in ("paths", "parameters", "admin"):
        assert [text for text in TEXTS if not any(holds(request, text) for request in requests)] == []
    if kind == "bodies":
        assert [text for text in JSONS if not any(text in request.body for request in requests)] == []
    if kind == "multipart":
        assert paths == set(WITH_FORM)
        assert {request.content_type for request in requests} == set(MULTIPART_TYPES)
        assert {request.body for request in requests} >= set(FORMS)
    if kind == "headers":
        assert [headers for headers in HEADERS if not any(request.headers == headers for request in requests)] == []
        assert {request.method for request in requests} >= set(METHODS)
        assert {request.content_type for request in requests} >= set(CONTENT_TYPES)


@pytest.mark.parametrize("user", USERS)
def test_no_request_that_failed_once_fails_again(application: Any, users: Callable[[str], Any], user: str) -> None:
    assert failed(application, once_failed(), users(user)) == []


def test_rows_of_the_admin_chosen_by_no_key_are_refused(application: Any, users: Callable[[str], Any]) -> None:
    body = b"action=delete_selected&_selected_action=1&_selected_action=x&post=yes"
    chosen = HostileRequest("/admin/aggregates/aggdef/", "POST", body, "application/x-www-form-urlencoded")
    assert status_of(application, chosen, users("superuser")) == 400
    known = HostileRequest(chosen.path, "POST", body.replace(b"=x", b"=2"), chosen.content_type)
    assert status_of(application, known, users("viewer")) != 400


@pytest.mark.long
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_of_the_whole_corpus_is_answered_by_500(
    application: Any, users: Callable[[str], Any], kind: str, user: str
) -> None:
    assert failed(application, KINDS[kind](), users(user)) == []


def test_the_corpus_has_every_address() -> None:
    resolver = get_resolver()
    known = {resolver.resolve(at(address)).route for address in PARAMETERS}
    assert len(known) == len(PARAMETERS) - 1  # two forms of an export
