"""Real Flot plots an unchanged answer of `/q`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import django.contrib.admin
import pytest

from tests.support.web.server import Server, write_aggregate
from zarkov_site.config.config import REPOSITORY

pytestmark = pytest.mark.browser
JQUERY = Path(django.contrib.admin.__file__).parent / "static/admin/js/vendor/jquery/jquery.min.js"
FLOT = Path(REPOSITORY) / "node_modules/flot/dist/es5/jquery.flot.js"


def test_flot_plots_an_answer_of_q(charts: Server, open_context: Callable[..., Any]) -> None:
    page = open_context(bypass_csp=True)[0].new_page()  # Flot adds inline styles to the page
    values = {f"date/2011-07-0{day}": {"sflogo": 12000 + day, "hits": 69000 - day} for day in range(1, 8)}
    write_aggregate(charts.database, "sfweb", values)
    page.goto(charts.url("healthz"))
    page.set_content('<div id="plot" style="width:600px;height:300px"></div>')
    page.add_script_tag(path=str(JQUERY))
    page.add_script_tag(path=str(FLOT))
    plotted = page.evaluate("""async () => {
        const asked = new URLSearchParams({foo: '{"c":"sfweb","b":"date/2011-07-01/","e":"date/2011-07-04"}'});
        const answer = await (await fetch("/q", {method: "POST", body: asked})).json();
        const data = Object.entries(answer.foo).map(([label, data]) => ({label, data}));
        const plot = $.plot("#plot", data, {xaxis: {mode: "time"}, legend: {show: true}});
        return plot.getData().map(series => [series.label, series.data, series.datapoints.points.length]);
    }""")
    days = [1309564800000.0, 1309651200000.0, 1309737600000.0]
    assert plotted == [
        ["sflogo", [[x, 12002 + i] for i, x in enumerate(days)], 6],
        ["hits", [[x, 68998 - i] for i, x in enumerate(days)], 6],
    ]
    colours = page.evaluate("""() => {
        const canvas = document.querySelector("canvas.flot-base");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 100) seen.add(data.slice(i, i + 3).join());
        return seen.size;
    }""")
    assert colours > 3
