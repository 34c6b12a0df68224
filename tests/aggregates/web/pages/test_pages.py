"""Content of pages: the latest documents, charts in rows, the order of dashboards, embed links."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from aggregates.models import AggDef, Chart, Dashboard, DashboardItem, EmbedLink
from aggregates.sample import content, metric_charts
from aggregates.web import embed
from aggregates.web.exceptions import BadRequestError
from aggregates.web.pages import chart_figure, views
from aggregates.web.series import latest_documents
from aggregates.web.series.chart_query import chart_errors
from tests.support.web.feed_answer import answer_of

Aggregate = Callable[..., None]


def test_the_latest_documents_are_those_that_changed_last(
    open_site: Any, aggregate: Aggregate, database: Any, client: Client
) -> None:
    aggregate("a", {f"zebra/2024-01-{day:02d}": day for day in range(1, 29)}, through=5)
    aggregate("a", {"ant/2024-01-03": 1}, through=6)
    found, order = latest_documents.read(database, "zagg.a")
    assert (found[0]["key"], found[1]["key"], order) == ("ant/2024-01-03", "zebra/2024-01-28", "changed last")
    page = client.get("/aggregates/a/").content.decode()
    assert page.index("ant/2024-01-03") < page.index("zebra/2024-01-28")
    assert "/api/v1/series/a/?limit=8" in page


def test_an_aggregate_too_large_to_sort_shows_its_last_keys(
    aggregate: Aggregate, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate("a", {"b": 1}, through=5)
    aggregate("a", {"a": 1}, through=6)
    database.command("create", "zagg.view", viewOn="zagg.a", pipeline=[])
    for name in ("zagg.a", "zagg.view"):
        assert [line["key"] for line in latest_documents.read(database, name)[0]] == ["a", "b"]
    monkeypatch.setattr(latest_documents, "MAX_SORTED", 1)
    for name in ("zagg.a", "zagg.view"):
        assert latest_documents.read(database, name)[1] == "last by key"
        assert [line["key"] for line in latest_documents.read(database, name)[0]] == ["b", "a"]


@pytest.mark.parametrize("letter", ["<", "ä", "\U0001f600"])
def test_long_keys_and_values_are_cut_before_they_are_read(
    open_site: Any, database: Any, client: Client, letter: str
) -> None:
    long = letter * 100_000
    database["zagg.a"].insert_many(
        [
            {"_id": "short", "value": {"hits": 1.5}, "through": 3},
            {"_id": long, "value": long},
            {"_id": {"key": long}, "value": {"field": long, "other": 1}, "through": long},
            {"_id": letter * 1_000, "value": [letter * 900] * 2},
            {"_id": 7},
        ]
    )
    lines = latest_documents.read(database, "zagg.a")[0]
    assert {"key": "short", "value": '{"hits": 1.5}', "through": 3} in lines
    assert {"key": "7", "value": "null", "through": None} in lines
    assert {"key": f"{letter * 1_000}…", "value": f'"{letter * 999}…', "through": None} in lines
    long_array = f'["{letter * 900}", "{letter * 94}…'
    assert {"key": letter * 1_000, "value": long_array, "through": None} in lines
    (no_text,) = [line for line in lines if line["key"].startswith("… (")]
    assert no_text["value"].startswith("… (") and no_text["value"].endswith(" bytes)") and no_text["through"] is None
    page = client.get("/aggregates/a/").content
    assert len(page) < 50_000 and page.count("…".encode()) >= 5


def test_the_list_of_aggregates_reads_the_descriptions_that_it_shows(
    open_site: Any, aggregate: Aggregate, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        aggregate(name, {"x": 1})
        AggDef.objects.create(name=name, task_name="tests.support.aggregates.tasks.CountByDay", description="says")
        AggDef.objects.filter(name=name).update(description=f"says {name}" + "." * 20_000)
    monkeypatch.setattr(views, "PER_PAGE", 1)
    read = []
    monkeypatch.setattr(views, "dict", lambda rows: read.extend(rows) or dict(read), raising=False)
    assert "says a" in client.get("/aggregates/").content.decode()
    assert [(name, len(text)) for name, text in read] == [("a", 10_000)]


@pytest.mark.parametrize(
    ("wide", "shown"),
    [("", ""), ("h", "w"), ("hh", "hh"), ("hhh", "hhw"), ("hwh", "www"), ("whhh", "whhw"), ("hhwhh", "hhwhh")],
)
def test_a_half_width_chart_alone_in_its_row_becomes_wide(site: Any, wide: str, shown: str) -> None:
    charts = [Chart(slug=f"c{number}", title="C", aggregate="a") for number in range(len(wide))]
    for chart, width in zip(charts, wide, strict=True):
        chart.wide = width == "w"  # type: ignore[attr-defined]
    assert "".join("w" if item["wide"] else "h" for item in chart_figure.contexts(charts)) == shown


@pytest.mark.django_db
def test_the_overview_features_the_first_dashboard_by_position(
    open_site: Any, aggregate: Aggregate, client: Client
) -> None:
    aggregate("a", {"2024-01-01": 1})
    for title, position in (("Aardvark", 20), ("Zebra", 5)):
        chart = Chart.objects.create(slug=title.lower(), title=f"Chart of {title}", aggregate="a")
        board = Dashboard.objects.create(slug=title.lower(), title=title, position=position)
        DashboardItem.objects.create(dashboard=board, chart=chart)
    page = client.get("/").content.decode()
    assert '<section class="card" data-charts' in page
    assert page.index("Chart of Zebra") < page.index("Chart of Aardvark")
    assert metric_charts.DASHBOARD.position > content.DASHBOARD.position


@pytest.mark.parametrize(
    ("prefix", "locked"), [("", ""), ("customer-7", "customer-7/"), ("customer-7/", "customer-7/")]
)
def test_a_locked_prefix_covers_whole_parts_of_keys(
    site: Any, aggregate: Aggregate, prefix: str, locked: str, database: Any
) -> None:
    link = EmbedLink(prefix=prefix)
    assert link.locked_prefix == locked
    aggregate("c", {f"customer-{number}/2024-01-01": 1 for number in (7, 70, 8)})
    chart = Chart(slug="c", title="C", aggregate="c", prefix="customer-")
    shown = answer_of(embed.chart_feed(chart, {}, prefix=link.locked_prefix))["series"]
    assert [line["label"] for line in shown] == (
        ["customer-7"] if locked else ["customer-7", "customer-70", "customer-8"]
    )


@pytest.mark.parametrize(
    "origin",
    ["https://-", "https://..", "http://.", "https://a:99999", "https://a:0", "https://*.org", "https://a/b", "a.org"],
)
def test_invalid_origins_are_refused(site: Any, origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        EmbedLink(name="x", origins=f"https://ok.example.org {origin}").clean()


@pytest.mark.parametrize("origin", ["https://a", "http://localhost:8000", "https://*.example.org", "https://1-a.b:443"])
def test_valid_origins_are_accepted(site: Any, origin: str) -> None:
    EmbedLink(name="x", origins=origin).clean()


@pytest.mark.parametrize(
    ("address", "origins", "mixed"),
    [
        ("http://zarkov.example/embed/x/", "https://wiki.example", True),
        ("http://zarkov.example/embed/x/", "http://wiki.example", False),
        ("https://zarkov.example/embed/x/", "https://wiki.example", False),
        ("http://127.0.0.1:8081/embed/x/", "https://wiki.example", False),
    ],
)
def test_an_insecure_frame_in_a_secure_page_is_detected(site: Any, address: str, origins: str, mixed: bool) -> None:
    assert embed.is_mixed_content(EmbedLink(origins=origins), address) is mixed


def test_a_chart_without_an_end_ends_now(site: Any, aggregate: Aggregate) -> None:
    aggregate("f", {"x/2024-01-01": 1, "x/2999-01-01": 1})
    chart = Chart(slug="f", title="F", aggregate="f", start="2020-01-01")
    for given in ({}, {"from": "-100y"}, {"from": ""}, {"to": ""}, {"from": "-100y", "to": ""}):
        shown = answer_of(embed.chart_feed(chart, given))["series"]
        assert [x for x, _ in shown[0]["data"]] == [1704067200000.0]
        assert answer_of(embed.chart_feed(chart, given))["later"] == 1
    with pytest.raises(BadRequestError, match="is after to"):
        embed.chart_feed(chart, {"from": "2998"})
    chart.end = "3000-01-01"
    assert len(answer_of(embed.chart_feed(chart, {}))["series"][0]["data"]) == 2


@pytest.mark.parametrize(("kind", "fill"), [("line", "gap"), ("table", "")])
def test_filled_charts_and_tables_end_now_too(site: Any, aggregate: Aggregate, kind: str, fill: str) -> None:
    aggregate("f", {"x/2024-01": 1, "x/2024-03": 1, "x/2999-01": 1})
    chart = Chart(slug="f", title="F", aggregate="f", kind=kind, fill=fill)
    [shown] = answer_of(embed.chart_feed(chart, {}))["series"]
    assert [x for x, y in shown["data"] if y] == [1704067200000.0, 1709251200000.0]


def test_a_chart_of_nothing_but_the_future_shows_it(site: Any, aggregate: Aggregate) -> None:
    aggregate("f", {"x/2998-01-01": 1, "x/2999-01-01": 1})
    answer = answer_of(embed.chart_feed(Chart(slug="f", title="F", aggregate="f"), {}))
    assert (len(answer["series"][0]["data"]), "later" in answer) == (2, False)


def test_a_chart_whose_range_names_a_month_shows_all_of_it(site: Any, aggregate: Aggregate) -> None:
    aggregate("f", {"x/2024-01-31T23:00": 1, "x/2024-02-01T00:00": 2, "x/2024-02-29T23:00": 3, "x/2024-03-01T00:00": 4})
    chart = Chart(slug="f", title="F", aggregate="f", start="2024-02", end="2024-02", zone="UTC")
    assert [y for _, y in answer_of(embed.chart_feed(chart, {}))["series"][0]["data"]] == [2, 3]
    shown = answer_of(embed.chart_feed(chart, {"from": "2024-02-29T23:00 00:00"}, adjustable=True))["series"]
    assert [y for _, y in shown[0]["data"]] == [3, 4]
    with pytest.raises(BadRequestError, match="from = '2999' is after to = 'now'"):
        embed.chart_feed(chart, {"from": "2999"})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"from": "2024-01", "to": "2024-01"}, [1]),
        ({"from": "2024-02", "to": "2024-02-01"}, [2]),
        ({"to": "2024-02-01"}, [2]),
        ({"from": "", "to": "2024-02-01"}, [1, 2]),
        ({"from": "2024-02-01", "to": "2024-02-01", "tz": "Europe/Berlin"}, [1, 2]),
        ({"tz": "Europe/Berlin"}, [1, 2]),
        ({"tz": ""}, [2, 3]),
    ],
)
def test_a_viewer_chooses_both_ends_and_the_zone_of_a_chart(
    site: Any, aggregate: Aggregate, given: dict[str, str], shown: list[int]
) -> None:
    aggregate("f", {"x/2024-01-31T23:00": 1, "x/2024-02-01T00:00": 2, "x/2024-02-29T23:00": 3, "x/2024-03-01T00:00": 4})
    chart = Chart(slug="f", title="F", aggregate="f", start="2024-02", end="2024-02", zone="UTC")
    read = answer_of(embed.chart_feed(chart, given))["series"]
    assert [y for _, y in read[0]["data"]] == shown
    locked = answer_of(embed.chart_feed(chart, given, adjustable=False))["series"]
    assert [y for _, y in locked[0]["data"]] == [2, 3]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "named"),
    [("to=bad", "to = 'bad'"), ("from=bad", "from = 'bad'"), ("tz=Bad/Zone", "tz = 'Bad/Zone'"),
     ("from=2024-02&to=2024-01", "is after to")],
)  # fmt: skip
@pytest.mark.parametrize("of", ["page", "embed"])
def test_a_stream_of_charts_refuses_a_range_that_it_cannot_read(
    open_site: Any, client: Client, aggregate: Aggregate, given: str, named: str, of: str
) -> None:
    aggregate("f", {"x/2024-01-31": 1})
    chart = Chart.objects.create(slug="f", title="F", aggregate="f")
    token = embed.token_of(EmbedLink.objects.create(chart=chart))
    address = f"/live/charts/?chart=f&{given}" if of == "page" else f"/embed/{token}/live/?{given}"
    answer = client.get(address)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_the_ends_of_a_range_are_checked_when_a_chart_is_saved(site: Any) -> None:
    chart = Chart(slug="f", title="F", aggregate="f", start="2024-02-30", end="20240201")
    faults = chart_errors(chart)
    assert faults["start"].startswith("'2024-02-30' is not a point in time: use a date")
    assert "write 2024-02-01 for the date" in faults["end"]
    chart.start, chart.end = "2024-03", "2024-02"
    assert chart_errors(chart) == {"start": "from = '2024-03' is after to = '2024-02': swap them"}
    chart.start = "2024-02"
    assert chart_errors(chart) == {}


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["charts", "dashboards"])
def test_a_link_is_created_on_the_page_of_its_chart_or_dashboard(
    closed_site: Any, aggregate: Aggregate, client: Client, kind: str
) -> None:
    aggregate("a", {"2024-01-01": 1})
    chart = Chart.objects.create(slug="it", title="The chart", aggregate="a")
    board = Dashboard.objects.create(slug="it", title="The board")
    DashboardItem.objects.create(dashboard=board, chart=chart)
    client.force_login(get_user_model().objects.create_superuser("root"))
    sent = {"name": "wiki", "origins": "https://wiki.example.org/page", "days": "30", "prefix": ""}
    assert client.post(f"/{kind}/it/", sent)["Location"] == f"/{kind}/it/#embed"
    link = EmbedLink.objects.get()
    assert (link.chart, link.dashboard) == ((chart, None) if kind == "charts" else (None, board))
    page = client.get(f"/{kind}/it/").content.decode()
    address = page.split("&lt;iframe src=&quot;")[1].split("&quot;")[0]
    assert address in page.split('href="', 1)[1]  # as a link, too, for sites that want an address
    shown = Client().get(address)
    assert shown.status_code == 200
    assert "frame-ancestors 'self' https://wiki.example.org" in shown["Content-Security-Policy"]
    assert "The chart" in shown.content.decode()
    assert "Browsers show no http://" in page  # the test's own server is http://testserver


def test_the_end_of_an_embed_link_names_its_zone(open_site: Any, admin_client: Client) -> None:
    chart = Chart.objects.create(slug="f", title="F", aggregate="f")
    EmbedLink.objects.create(chart=chart, name="wiki", expires=datetime(2999, 1, 1, 4, tzinfo=UTC))
    with timezone.override("America/New_York"):
        page = admin_client.get("/charts/f/").content.decode()
    assert "until 2998-12-31 23:00 America/New_York" in page
