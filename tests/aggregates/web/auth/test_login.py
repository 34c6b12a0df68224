"""Logging in, with a limit on wrong passwords."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from aggregates.web.auth import login

pytestmark = pytest.mark.django_db
NAME, PASSWORD = "ann", "correct horse"


@pytest.fixture(autouse=True)
def clock(closed_site: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock in seconds, for tests to advance; create the user ann."""
    now = [1_000_000_020.0]
    monkeypatch.setattr(login, "time", SimpleNamespace(time=lambda: now[0]))
    get_user_model().objects.create_superuser(NAME, "", PASSWORD)
    return now


def post(path: str, password: str, name: str = NAME, address: str = "10.0.0.1") -> Any:
    return Client(REMOTE_ADDR=address).post(path, {"username": name, "password": password})


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_after_ten_wrong_passwords_even_the_right_one_is_refused_for_a_minute(path: str, clock: list[float]) -> None:
    assert post(path, PASSWORD).status_code == 302
    for _ in range(login.MAX_WRONG_PASSWORDS):
        assert b"Too many wrong passwords" not in post(path, "guess").content
    refused = post(path, PASSWORD, name="ANN")
    assert refused.status_code == 200 and b"Too many wrong passwords" in refused.content
    assert post(path, PASSWORD).status_code == 200
    assert post(path, PASSWORD, address="10.0.0.2").status_code == 302  # other addresses are not locked out
    clock[0] += login.WINDOW_S
    assert post(path, PASSWORD).status_code == 302


def test_only_staff_can_log_in_to_the_admin(clock: list[float]) -> None:
    get_user_model().objects.create_user("bob", password=PASSWORD)
    assert post("/admin/login/", PASSWORD, name="bob").status_code == 200
    assert post("/login/", PASSWORD, name="bob").status_code == 302
