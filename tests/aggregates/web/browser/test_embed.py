"""Charts embedded in pages of another origin, and the access that embed links give."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.waiting import eventually
from tests.support.web.charts import drawn
from tests.support.web.embedding_site import Site, embed_link
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.browser


def frame(site: Site, server: Server, path: str) -> None:
    site.html = f'<!doctype html><title>wiki</title><iframe src="{server.url(path)}" width="800" height="500"></iframe>'


def test_a_chart_is_drawn_and_live_in_a_page_of_another_origin(charts: Server, wiki: Any) -> None:
    site, page, _ = wiki
    path, _ = embed_link(charts, origins=site.origin)
    frame(site, charts, path)
    page.goto(site.origin)
    inside = page.frame_locator("iframe")
    expect(inside.locator("canvas")).to_be_visible()
    expect(inside.locator(".live-status")).to_have_text("Live")
    inside.get_by_text("Data as a table").click()
    write_aggregate(charts.database, "commits", {"celery/2025-03": 9876}, through=70)
    charts.announce("commits", 70)
    expect(inside.locator("tbody tr", has_text="9,876")).to_be_visible()
    assert page.context.cookies() == []


def test_a_page_of_an_unlisted_origin_cannot_frame_it(charts: Server, wiki: Any) -> None:
    site, page, watched = wiki
    watched.expected = ("frame-ancestors",)
    path, _ = embed_link(charts, origins="https://wiki.example.org")
    frame(site, charts, path)
    page.goto(site.origin)
    eventually(lambda: (page.wait_for_timeout(50), watched.expected_faults)[1], what="the refusal")
    assert all(".chart" not in (item.content()) for item in page.frames[1:] if "embed" in item.url)
    assert page.frame_locator("iframe").locator("canvas").count() == 0


def test_other_pages_can_never_be_framed(charts: Server, wiki: Any) -> None:
    site, page, watched = wiki
    watched.expected = ("frame-ancestors", "X-Frame-Options")
    frame(site, charts, "charts/commits/")
    page.goto(site.origin)
    eventually(lambda: (page.wait_for_timeout(50), watched.expected_faults)[1], what="the refusal")
    assert page.frame_locator("iframe").locator(".chart").count() == 0


def test_a_locked_prefix_limits_every_request(charts: Server, page: Page) -> None:
    path, _ = embed_link(charts, prefix="gevent/")
    page.goto(charts.url(path))
    figure = drawn(page, "commits")
    expect(figure.locator(".legend button")).to_have_text(["gevent"])
    for asked in ("?from=-100y", "?prefix=celery/", "?from=-100y&chart=lines"):
        with charts.stream(f"{path}live/{asked}") as stream:
            kind, _, data = stream.next()
            assert kind == "series:commits"
            assert {series["label"] for series in data["series"]} == {"gevent"}


def test_the_range_is_fixed_unless_viewers_may_choose(charts: Server, page: Page) -> None:
    path, _ = embed_link(charts, range_adjustable=False)
    with page.expect_request(lambda request: "/live/" in request.url) as asked:
        page.goto(charts.url(f"{path}?from=-1h&tz=Mars"))
    assert "?" not in asked.value.url
    drawn(page, "commits")
    assert page.locator(".ranges").count() == 0
    with charts.stream(f"{path}live/") as plain, charts.stream(f"{path}live/?from=-1h") as stream:
        assert stream.next()[2]["series"] == plain.next()[2]["series"] != []
    free, _ = embed_link(charts, range_adjustable=True)
    with charts.stream(f"{free}live/?from=-1h") as stream:
        assert stream.next()[2]["series"] == []


@pytest.mark.parametrize("change", ["expires=timezone.now()", "revoked=True"])
def test_an_expired_or_revoked_link_shows_nothing_and_its_open_stream_ends(charts: Server, change: str) -> None:
    path, key = embed_link(charts)
    with charts.stream(f"{path}live/") as stream:
        stream.next()
        charts.django(f"""
            from django.utils import timezone
            from aggregates.models import EmbedLink
            EmbedLink.objects.filter(key={key!r}).update({change})
        """)
        with pytest.raises(EOFError):
            while True:
                stream.next()
    status, headers, body = charts.request(path)
    assert status == 403
    assert b"expired or was revoked" in body and b"data-stream" not in body
    assert charts.request(f"{path}live/")[0] == 403
    assert "set-cookie" not in headers


def test_tokens_with_a_wrong_signature_are_refused(charts: Server) -> None:
    path, _ = embed_link(charts)
    token = path.split("/")[1]
    foreign = charts.django("""
        from django.core import signing
        print(signing.dumps("x", key="another key", salt="aggregates.web.embed"))
        print(signing.dumps("x", salt="another salt"))
        print(signing.dumps("no such link", salt="aggregates.web.embed"))
    """).split()
    for wrong in (token[:-1] + ("a" if token[-1] != "a" else "b"), "x", token.split(":")[0], *foreign):
        for place in (f"embed/{wrong}/", f"embed/{wrong}/live/"):
            assert charts.request(place)[0] == 403, place


def test_an_embedded_page_sets_no_cookie_and_needs_no_login(charts: Server) -> None:
    path, _ = embed_link(charts, origins="https://a.example https://b.example:8443")
    status, headers, body = charts.request(path)
    assert status == 200
    assert "set-cookie" not in headers
    assert "x-frame-options" not in headers
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'self' https://a.example https://b.example:8443" in policy
    assert "script-src 'self';" in policy and "unsafe-inline" not in policy
    assert b"<nav" not in body
