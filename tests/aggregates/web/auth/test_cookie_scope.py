"""Cookies of logins through a proxy, below a path, and past it, on one host name."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tests.support.web.configuration import configure

pytestmark = pytest.mark.django_db
THROUGH = {"SCRIPT_NAME": "/zarkov"}  # as `zarkov_site.proxy_headers` sets it
PAST: dict[str, str] = {}


@pytest.fixture
def browser(closed_site: Any) -> Client:
    """Return a browser that sends its cookies to both addresses, as it sends those of `/` below every path."""
    configure(closed_site, public_url="https://www.example.org/zarkov")
    User.objects.create_superuser("admin", password="right")
    return Client()


def log_in(browser: Client, way: dict[str, str]) -> None:
    answer = browser.post("/login/", {"username": "admin", "password": "right"}, **way)  # type: ignore[arg-type]
    assert answer.status_code == 302


def is_logged_in(browser: Client, way: dict[str, str]) -> bool:
    return b"Log out admin" in browser.get("/", **way).content  # type: ignore[arg-type]


def test_logins_through_the_proxy_and_past_it_do_not_hide_each_other(browser: Client) -> None:
    name = settings.SESSION_COOKIE_NAME
    log_in(browser, PAST)
    assert name not in browser.cookies
    assert (browser.cookies[f"{name}_direct"]["path"], is_logged_in(browser, THROUGH)) == ("/", False)
    log_in(browser, THROUGH)
    assert browser.cookies[name]["path"] == "/zarkov"
    for _ in range(2):
        assert is_logged_in(browser, THROUGH) and is_logged_in(browser, PAST)
        assert browser.post("/logout/", **THROUGH).status_code == 302  # type: ignore[arg-type]
        assert (is_logged_in(browser, THROUGH), is_logged_in(browser, PAST)) == (False, True)
        log_in(browser, THROUGH)


def test_without_a_path_there_is_one_login(browser: Client, closed_site: Any) -> None:
    configure(closed_site, public_url="https://www.example.org")
    log_in(browser, PAST)
    assert settings.SESSION_COOKIE_NAME in browser.cookies
    assert is_logged_in(browser, PAST)
