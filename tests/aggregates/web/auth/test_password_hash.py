"""Passwords are hashed where that holds up no other request, and the hashes are those of Django."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.test import Client
from django.urls import reverse

from aggregates.web.auth.password_hash import HASHES_AT_ONCE, ThreadedPasswordHasher
from tests.support.durations import assert_within
from tests.support.web.health import slowest_probe_s
from tests.support.web.login import answer_to
from tests.support.web.server import PASSWORD, Server

BESIDE_ONE_S = 0.3  # a hash takes twice that
BESIDE_MANY_S = 1.0  # several seconds where one hash follows another without a pause
MANY = 12
GREENLETS = f"""
    from gevent import monkey; monkey.patch_all()
    import threading, gevent
    from django.conf import settings
    settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}})
    from django.db import transaction
    from aggregates.web.auth import password_hash

    main, threads, under_way, most = threading.get_native_id(), set(), [], []
    def hashed(self, password, salt, iterations=None):
        threads.add(gevent.monkey.get_original("threading", "get_ident")())
        under_way.append(password); most.append(len(under_way))
        gevent.monkey.get_original("time", "sleep")(0.02)
        under_way.remove(password)
        return password
    password_hash.PBKDF2PasswordHasher.encode = hashed
    encode = password_hash.ThreadedPasswordHasher().encode
    here = gevent.monkey.get_original("threading", "get_ident")()
    order = []
    jobs = [gevent.spawn(lambda n=n: order.append(encode(n, "salt"))) for n in range(8)]
    gevent.joinall(jobs, raise_error=True)
    assert here not in threads and max(most) == {HASHES_AT_ONCE}, (threads, most)
    assert sorted(order) == list(range(8)) and max(abs(at - n) for at, n in enumerate(order)) < {HASHES_AT_ONCE}, order
    threads.clear()
    with transaction.atomic():
        encode("x", "salt")
    assert threads == {{here}}
    threads.clear()
    settings.PASSWORD_HASHERS = ["aggregates.web.auth.password_hash.ThreadedPasswordHasher"]
    with password_hash.hashed_before("x"), transaction.atomic():
        encode("x", "salt")
        assert here not in threads and len(threads) == 1
        encode("y", "salt"); encode("x", "salt", 1)
        assert here in threads
"""


def test_hashes_are_those_of_django() -> None:
    hasher = ThreadedPasswordHasher()
    stored = PBKDF2PasswordHasher().encode("correct horse", "salt", 1000)
    assert hasher.encode("correct horse", "salt", 1000) == stored
    assert hasher.algorithm == PBKDF2PasswordHasher.algorithm and hasher.must_update(stored)
    assert hasher.verify("correct horse", stored) and not hasher.verify("wrong", stored)


def test_the_site_hashes_with_it() -> None:
    done = subprocess.run(
        [
            sys.executable, "-c",
            "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'zarkov_site.settings'; import django; django.setup();"
            "from django.contrib.auth import hashers as h; print(type(h.get_hasher()).__name__,"
            "type(h.get_hasher('pbkdf2_sha256')).__name__, h.get_hasher('pbkdf2_sha1').algorithm)",
        ],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["ThreadedPasswordHasher", "ThreadedPasswordHasher", "pbkdf2_sha1"]


def test_greenlets_hash_in_a_few_threads_in_order_but_not_within_a_transaction() -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(GREENLETS)], check=True, timeout=60)


@pytest.mark.django_db(transaction=True)
def test_no_password_is_hashed_within_a_transaction_by_the_admin(
    site: Any, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.STORAGES = {
        **site.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    site.PASSWORD_HASHERS = ["aggregates.web.auth.password_hash.ThreadedPasswordHasher"]
    within: list[bool] = []
    encode = PBKDF2PasswordHasher.encode

    def record(self: Any, password: str, salt: str, iterations: int | None = None) -> str:
        within.append(connection.in_atomic_block)
        return encode(self, password, salt, 1)

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", record)
    given = {"username": "new", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    assert admin_client.post(reverse("admin:auth_user_add"), given).status_code == 302
    user = get_user_model().objects.get(username="new")
    assert user.check_password(PASSWORD) and not user.check_password("x")
    changed = given | {"password1": f"{PASSWORD} 2", "password2": f"{PASSWORD} 2"}
    page = reverse("admin:auth_user_password_change", args=[user.pk])
    assert admin_client.post(page, changed).status_code == 302
    user.refresh_from_db()
    assert user.check_password(f"{PASSWORD} 2")
    assert len(within) >= 5 and not any(within)
    refused = admin_client.post(reverse("admin:auth_user_add"), given)
    assert b"already exists" in refused.content and not any(within)


@pytest.fixture(scope="module")
def server(mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with one web process, which has checked a password before."""
    folder = tmp_path_factory.mktemp("logins")
    with Server(mongo_uri, folder, WEB_CONCURRENCY="1", ZARKOV_ANONYMOUS_READ="false") as running:
        assert b"Too many" not in answer_to(running, "guess", "first")
        yield running


def wrong(server: Server, name: str) -> Callable[[], None]:
    def attack() -> None:
        answer_to(server, "guess", name)

    return attack


@pytest.mark.parametrize(("count", "within_s"), [(1, BESIDE_ONE_S), (MANY, BESIDE_MANY_S)])
def test_others_are_answered_while_passwords_are_checked(server: Server, count: int, within_s: float) -> None:
    attacks = [wrong(server, f"nobody {number}") for number in range(count)]
    assert_within(within_s, lambda: slowest_probe_s(server, *attacks), tries=1)


def test_the_right_password_is_let_in(server: Server) -> None:
    assert b'name="password"' not in answer_to(server, PASSWORD)
