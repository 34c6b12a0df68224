"""Streams in a browser: in sandboxed frames of another origin, and when the server refuses them or is away."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.support.waiting import eventually
from tests.support.web.embedding_site import embed_link
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.browser
PAUSES_MS = [3000, 6000, 12000, 24000, 48000, 60000, 60000]
# Makes long pauses short, and records them.
HASTE = """
window.pauses = [];
const later = window.setTimeout.bind(window);
window.setTimeout = (action, ms) => later(action, ms >= 1000 ? window.pauses.push(ms) && 1 : ms);
"""


def streams(page: Page) -> list[str]:
    """Return a list of the stream requests that the page makes from now on."""
    made: list[str] = []
    page.on("request", lambda request: "/live/" in request.url and made.append(request.resource_type))
    return made


@pytest.mark.parametrize(
    ("sandbox", "value"),
    [("allow-scripts", 8761), ("allow-scripts allow-popups", 8762), ("allow-scripts allow-same-origin", 8763)],
)
def test_a_chart_in_a_sandboxed_frame_is_drawn_and_live(charts: Server, wiki: Any, sandbox: str, value: int) -> None:
    site, page, _ = wiki
    path, _ = embed_link(charts, origins=site.origin)
    site.html = f'<!doctype html><title>wiki</title><iframe sandbox="{sandbox}" src="{charts.url(path)}"></iframe>'
    made = streams(page)
    page.goto(site.origin)
    inside = page.frame_locator("iframe")
    expect(inside.locator("canvas")).to_be_visible()
    expect(inside.locator(".live-status")).to_have_text("Live")
    inside.get_by_text("Data as a table").click()
    write_aggregate(charts.database, "commits", {"celery/2025-04": value}, through=value)
    charts.announce("commits", value)
    expect(inside.locator("tbody tr", has_text=f"{value:,}")).to_be_visible()
    assert made == ["eventsource"]
    inside.get_by_role("button", name="5 y").click()  # keeps the range in an address that has no origin
    expect(inside.locator(".live-status")).to_have_text("Live")
    eventually(lambda: (page.wait_for_timeout(10), len(made) == 2)[1], what="the stream of the other range")


def test_an_embedded_chart_says_that_it_needs_scripts_where_they_are_not_allowed(charts: Server) -> None:
    path, _ = embed_link(charts)
    _, _, body = charts.request(path)  # a frame without scripts cannot be looked into
    assert re.search(rb"<noscript><p[^>]*>Commits needs scripts: .*allow-scripts.*</p></noscript>", body)


def test_only_the_stream_of_a_signed_link_can_be_read_without_an_origin(charts: Server) -> None:
    path, _ = embed_link(charts)
    for where, allowed in (
        (f"{path}live/", "null"),
        ("live/charts/?chart=commits", None),
        ("api/v1/live/commits/", None),
    ):
        with charts.stream(where, Origin="null") as stream:
            assert stream.answer.headers["Access-Control-Allow-Origin"] == allowed, where
    with charts.stream(f"{path}live/", Origin="https://wiki.example.org") as stream:
        assert stream.answer.headers["Access-Control-Allow-Origin"] is None
    assert charts.request("embed/nonsense/live/", Origin="null")[1]["access-control-allow-origin"] == "null"


def test_a_frame_whose_link_was_revoked_says_so_and_asks_no_more(charts: Server, wiki: Any) -> None:
    site, page, watched = wiki
    watched.expected = ("403",)
    page.context.add_init_script(HASTE)
    path, key = embed_link(charts, origins=site.origin)
    site.html = f'<!doctype html><title>wiki</title><iframe sandbox="allow-scripts" src="{charts.url(path)}"></iframe>'
    page.goto(site.origin)
    status = page.frame_locator("iframe").locator(".live-status")
    expect(status).to_have_text("Live")
    charts.django(f"""
        from aggregates.models import EmbedLink
        EmbedLink.objects.filter(key={key!r}).update(revoked=True)
    """)
    made = streams(page)
    expect(status).to_have_text("Not live: no longer allowed")
    assert status.evaluate("() => window.pauses") == []
    assert len(made) == 2  # the browser's own attempt, and the question why


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "does not understand"),
        (401, "log in again"),
        (403, "no longer allowed"),
        (404, "no longer there"),
        (410, "no longer there"),
    ],
)
def test_a_refused_stream_is_not_asked_for_again(open_context: Any, charts: Server, code: int, words: str) -> None:
    context, watched = open_context()
    watched.expected = (str(code),)
    page = context.new_page()
    page.add_init_script(HASTE)
    asked = refuse(page, lambda route: route.fulfill(status=code, json={"error": {}}))
    page.goto(charts.url("charts/commits/"))
    expect(page.locator(".live-status")).to_have_text(re.compile(words))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')), window.dispatchEvent(new Event('online'))")
    assert page.evaluate("window.pauses") == []
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 503, "json": {"error": {}}},
        {"status": 502, "body": "bad gateway"},
        {"status": 429, "body": ""},
        {"status": 500, "body": ""},
        {"status": 200, "body": "a login", "content_type": "text/html"},
        None,
    ],
    ids=["503", "502", "429", "500", "a page", "no connection"],
)
def test_a_stream_that_may_come_back_is_asked_for_ever_more_rarely(
    open_context: Any, charts: Server, answer: Any
) -> None:
    context, watched = open_context()
    watched.expected = ("Failed to load resource", "EventSource's response")
    page = context.new_page()
    page.add_init_script(HASTE)
    asked = refuse(page, lambda route: route.fulfill(**answer) if answer else route.abort())
    page.goto(charts.url("charts/commits/"))
    page.wait_for_function("count => window.pauses.length >= count", arg=len(PAUSES_MS))
    assert page.evaluate("window.pauses")[: len(PAUSES_MS)] == PAUSES_MS
    page.unroute(re.compile("/live/charts"))
    expect(page.locator(".live-status")).to_have_text("Live")
    assert len(asked) <= len(page.evaluate("window.pauses")) + 2


def refuse(page: Page, answer: Callable[[Route], Any]) -> list[str]:
    """Let `answer` reply to the requests for a stream; return a list to which each is added."""
    asked: list[str] = []

    def handle(route: Route) -> None:
        asked.append(route.request.resource_type)
        answer(route)

    page.route(re.compile("/live/charts"), handle)
    return asked
