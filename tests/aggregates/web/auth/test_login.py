"""Logging in, with a limit on wrong passwords."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from aggregates.models import LoginCount
from aggregates.web.auth import login
from tests.support.waiting import eventually
from tests.support.web.login import answer_to
from tests.support.web.server import PASSWORD as SERVER_PASSWORD
from tests.support.web.server import Server

pytestmark = pytest.mark.django_db
NAME, PASSWORD = "ann", "correct horse"
SLEPT: list[float] = []


@pytest.fixture(autouse=True)
def clock(closed_site: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock in seconds, for tests to advance; create the user ann."""
    now = [1_000_000_020.0]
    monkeypatch.setattr(login, "time", SimpleNamespace(time=lambda: now[0], sleep=SLEPT.append))
    SLEPT.clear()
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


def test_right_passwords_are_not_counted_and_counts_of_past_minutes_are_deleted(clock: list[float]) -> None:
    for _ in range(login.MAX_WRONG_PASSWORDS + 5):
        assert post("/login/", PASSWORD).status_code == 302
    assert set(LoginCount.objects.values_list("count", flat=True)) == {0}
    clock[0] += 3 * login.WINDOW_S
    assert post("/login/", PASSWORD, name="bob").status_code == 200
    assert set(LoginCount.objects.values_list("count", flat=True)) == {1}


def test_one_address_cannot_try_many_names(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "MAX_WRONG_BY_ADDRESS", 12)
    for number in range(12):
        assert b"Too many" not in post("/login/", "guess", name=f"name {number}").content
    assert b"Too many wrong passwords from your address" in post("/login/", PASSWORD).content
    assert post("/login/", PASSWORD, address="10.0.0.2").status_code == 302


def test_a_flood_from_many_addresses_slows_logins_for_a_name_down_and_locks_nobody_out(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "WRONG_BEFORE_SLOW", 30)
    for number in range(35):
        post("/login/", "guess", address=f"10.0.1.{number}")
    assert len(SLEPT) == 5
    assert post("/login/", PASSWORD, address="10.0.2.1").status_code == 302
    assert SLEPT == [login.SLOW_S] * 6
    assert post("/login/", "guess", name="bob", address="10.0.2.1").status_code == 200
    assert len(SLEPT) == 6


@pytest.mark.django_db(transaction=True)
def test_tries_at_the_same_time_are_counted_one_by_one() -> None:
    until = datetime(2033, 1, 1, tzinfo=UTC)
    counts = set[int]()

    def add() -> None:
        try:
            counts.add(LoginCount.add(("key", "other"), 1, until)["key"])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == set(range(1, 21))


def test_all_web_processes_count_together(mongo_uri: str, tmp_path: Path) -> None:
    with Server(mongo_uri, tmp_path, WEB_CONCURRENCY="2", ZARKOV_ANONYMOUS_READ="false") as server:

        def ten_are_let_try() -> bool:
            """Return whether of eleven wrong passwords and the right one, each alone, the last two are refused."""
            tries = ["guess"] * 11 + [SERVER_PASSWORD]
            refused = [b"Too many wrong passwords" in answer_to(server, password) for password in tries]
            return refused == [False] * 10 + [True, True]

        eventually(ten_are_let_try, 150, what="all of them in one clock minute")
