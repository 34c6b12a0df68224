"""The address by which requests without a login are counted."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, RequestFactory

from aggregates.web.api.throttling import ScopeThrottle
from aggregates.web.auth.client_address import counted_address


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_client_is_counted_with_its_network(address: str, counted: str) -> None:
    assert counted_address(RequestFactory().get("/", REMOTE_ADDR=address)) == counted


@pytest.mark.django_db
def test_a_header_that_anybody_can_send_does_not_choose_the_counter(
    open_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScopeThrottle, "THROTTLE_RATES", {"api": "1/d"})
    first = Client(REMOTE_ADDR="2001:db8::1")
    assert first.get("/api/v1/collections/").status_code == 200
    for client in (
        Client(REMOTE_ADDR="2001:db8::1", HTTP_X_FORWARDED_FOR="203.0.113.9"),
        Client(REMOTE_ADDR="2001:db8::2"),
    ):
        assert client.get("/api/v1/collections/").status_code == 429
    assert Client(REMOTE_ADDR="2001:db8:0:1::1").get("/api/v1/collections/").status_code == 200
