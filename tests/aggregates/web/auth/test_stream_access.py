"""An open stream continues only while the database still grants access."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import Client

from aggregates.models import AccessToken
from aggregates.web.auth import stream_access as module
from aggregates.web.auth.access import Rights
from aggregates.web.auth.stream_access import clear_cache, may_continue
from aggregates.web.auth.token_creation import make_token


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock, so that cached rights do not expire on a slow machine."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1_000.0))


pytestmark = pytest.mark.django_db(transaction=True)  # the check closes the connection


@pytest.fixture
def by_token(closed_site: Any) -> HttpRequest:
    """Return a request with a token."""
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = f"Token {make_token('t', ['read'])[1]}"
    request.user = AnonymousUser()
    return request


@pytest.fixture
def by_login(closed_site: Any) -> HttpRequest:
    """Return a request of a logged-in user."""
    client = Client()
    client.force_login(get_user_model().objects.create_user("ann"))
    request = HttpRequest()
    request.session = client.session
    request.user = get_user_model().objects.get(username="ann")
    return request


def reads(rights: Rights) -> None:
    rights.require_name("a")


ENDS: dict[str, Callable[[], Any]] = {
    "deleted": lambda: AccessToken.objects.all().delete(),
    "expired": lambda: AccessToken.objects.update(expiry="2020-01-01T00:00:00Z"),
    "limited": lambda: AccessToken.objects.update(collections="other"),
    "narrowed": lambda: AccessToken.objects.update(scopes="ingest"),
    "disabled": lambda: get_user_model().objects.update(is_active=False),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_ends_once_its_token_is_no_longer_valid(by_token: HttpRequest, end: str) -> None:
    allowed = may_continue(by_token, reads)
    assert allowed()
    ENDS[end]()
    assert allowed()  # rights are cached for two seconds
    clear_cache()
    assert not allowed()


@pytest.mark.parametrize("end", ["logged out", "disabled", "gone"])
def test_a_stream_ends_once_its_login_has_ended(by_login: HttpRequest, end: str) -> None:
    allowed = may_continue(by_login, reads)
    assert allowed()
    if end == "logged out":
        by_login.session.delete()
    elif end == "disabled":
        ENDS["disabled"]()
    else:
        get_user_model().objects.all().delete()
    clear_cache()
    assert not allowed()


def test_an_anonymous_stream_is_not_looked_up(closed_site: Any, django_assert_num_queries: Any) -> None:
    request = HttpRequest()
    request.user = AnonymousUser()
    with django_assert_num_queries(0):
        assert may_continue(request, Rights.require_unlimited)()


def test_many_streams_of_one_token_cost_one_lookup(by_token: HttpRequest, django_assert_num_queries: Any) -> None:
    checks = [may_continue(by_token, reads) for _ in range(50)]
    assert checks[0]()
    with django_assert_num_queries(0):
        assert all(check() for check in checks)
