"""Outputs whose names other programs chose: every name is listed, and linked if anything can read it."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import resolve

from aggregates.models import Chart
from aggregates.web.output_address import output_address
from tests.support.web.configuration import configure
from tests.support.web.server import Server, write_aggregate

pytestmark = pytest.mark.django_db

READABLE = [
    "a/b", "/", "a/", "/a", "a//b", "a/./b", "a\nb", "\n", "a?b", "a#b", "%2F", "100%", "a;b", "a'b", 'a"b', "a b", " ",
    "a\x01\x7fb", "\\", "é", "\u202e", "<b>", "a.csv", "csv/.csv", "run/", "&amp;", "+", "*", "x" * 180,
]  # fmt: skip
UNREADABLE = ["", ".", ".a", "a.", "a..b"]  # MongoDB has these, but its driver refuses them


def get(client: Client, address: str) -> Any:
    """Get a path as servers pass it on: without percent-encoding."""
    assert re.fullmatch(r"[A-Za-z0-9/._~%?=&*-]+", address), address
    parts = urlsplit(address)
    assert "//" not in parts.path and "/./" not in parts.path
    return client.get(address)


@pytest.fixture
def named(open_site: Any, database: Any) -> list[str]:
    """Write one document into an output of each name."""
    configure(open_site, mongo_database=database.name)
    for name in READABLE:
        database[f"zagg.{name}"].insert_one({"_id": "2011-07-01", "value": 1, "through": 7})
    for name in UNREADABLE:
        database.command("create", f"zagg.{name}")
    return READABLE


def test_every_output_is_listed_and_linked_unless_nothing_can_read_it(named: list[str], client: Client) -> None:
    page = client.get("/aggregates/")
    assert page.status_code == 200
    text = page.content.decode()
    titles = [unescape(found) for found in re.findall(r"<strong>([^<]*)</strong>", text)]
    assert titles == sorted(READABLE + UNREADABLE)
    links = re.findall(r'<li><a href="(/aggregates/[^"]+)">', text)
    assert links == [f"/aggregates/{quote(name, safe='')}/" for name in sorted(READABLE)]
    for link in links:
        assert get(client, link).status_code == 200, link
    listed = client.get("/api/v1/collections/").json()["collections"]
    assert listed == client.get("/collections").json()["options"] == sorted(READABLE + UNREADABLE)


def test_the_page_of_an_output_has_addresses_that_work_and_are_safe_in_a_shell(
    named: list[str], client: Client
) -> None:
    for name in named:
        check_addresses(client, name)


def check_addresses(client: Client, name: str) -> None:
    page = get(client, output_address("aggregate", name)).content.decode()
    assert unescape(re.search(r"<h1>([^<]*)</h1>", page)[1]) == name  # type: ignore[index]
    exports = re.findall(r'href="(/api/v1/export/[^"]+)" download', page)
    assert [get(client, address).status_code for address in exports] == [200, 200]
    assert b"2011-07-01" in b"".join(get(client, exports[1]).streaming_content)
    curl = unescape(re.search(r'<pre id="curl" tabindex="0">([^<]*)</pre>', page)[1])  # type: ignore[index]
    address = re.fullmatch(r"curl '(http://testserver[^']+)'", curl)[1]  # type: ignore[index]
    (found,) = get(client, address.removeprefix("http://testserver")).json()["series"]
    assert found["data"] == [[1309478400000.0, 1]]
    assert get(client, output_address("api:ranked", name)).json()["documents"][0]["value"] == 1
    stream = unescape(re.search(r'data-stream="([^"]+)"', page)[1])  # type: ignore[index]
    assert stream == f"{output_address('api:live', name)}?limit=8&bulk=1"
    assert resolve(unquote(urlsplit(stream).path)).kwargs == {"name": name}
    asked = {"q": json.dumps({"c": name})}
    assert client.get("/q", asked).json()["q"], name


def test_names_that_nothing_can_read_have_no_address_and_answer_404(open_site: Any, client: Client) -> None:
    for name in (*UNREADABLE, "a\0b", "$a", "a$b", "system.x", "x" * 300, "\ud800"):
        assert output_address("aggregate", name) == output_address("api:export", name, "csv") == ""
    for name in (*UNREADABLE[1:], "a\0b", "$a", "a$b", "system.x", "a.system.b", "x" * 300):
        for view in ("/aggregates/{}/", "/api/v1/series/{}/", "/api/v1/ranked/{}/", "/api/v1/export/{}.csv"):
            path = view.format(quote(name, safe=""))
            assert client.get(path).status_code == 404, path


def test_a_chart_links_to_the_numbers_of_its_output_if_they_have_an_address(open_site: Any, client: Client) -> None:
    for slug, name in (("slash", "a/b?c"), ("dots", "a..b")):
        Chart.objects.create(slug=slug, title=slug, aggregate=name)
    assert 'href="/aggregates/a%2Fb%3Fc/">Numbers' in client.get("/charts/slash/").content.decode()
    assert "Numbers" not in client.get("/charts/dots/").content.decode()
    assert client.get("/charts/").status_code == 200


def test_a_new_chart_of_an_output_with_a_slash_leads_to_its_page(open_site: Any, database: Any) -> None:
    database["zagg.a/b"].insert_one({"_id": "2011-07-01", "value": 1, "through": 7})
    user = get_user_model().objects.create_superuser("editor", password="unused-in-test")
    client = Client()
    client.force_login(user)
    made = client.post("/aggregates/a%2Fb/", {"title": "Of a slash", "kind": "line", "start": ""})
    assert (made.status_code, made["Location"]) == (302, "/charts/of-a-slash/#main")
    assert Chart.objects.get().aggregate == "a/b"
    assert client.get("/charts/of-a-slash/").status_code == 200
    assert 'value="a/b"' in client.get("/admin/aggregates/chart/add/").content.decode()


def test_a_login_returns_to_an_output_whose_name_means_something_in_an_address(
    open_site: Any, database: Any, client: Client
) -> None:
    database["zagg.a#b"].insert_one({"_id": "2011-07-01", "value": 1})
    page = client.get("/aggregates/a%23b/").content.decode()
    assert "?next=/aggregates/a%2523b/%23make" in page


def test_a_real_server_finds_outputs_by_their_encoded_names(server: Server) -> None:
    for number, name in enumerate(("a/b", "a/./b", "/", "a//b", "a\nb", "a?b#c", "100%", "é;+*", "x" * 180)):
        write_aggregate(server.database, name, {"2011-07-01": number}, through=1)
        status, _, body = server.request(f"api/v1/series/{quote(name, safe='')}/")
        assert (status, json.loads(body)["series"][0]["data"][0][1]) == (200, number), name
        assert server.request(f"aggregates/{quote(name, safe='')}/")[0] == 200, name
        assert server.request(f"api/v1/export/{quote(name, safe='')}.csv")[2].startswith(b"key,value"), name
    assert server.request("aggregates/")[0] == 200
