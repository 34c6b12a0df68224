"""Forms of the pages."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.utils import timezone
from django.utils.text import slugify

from aggregates.models import EmbedLink
from aggregates.models.chart import Chart, Dashboard
from aggregates.web.series.chart_query import CheckedChartForm

_LIFETIMES = [("1", "after one day"), ("30", "after 30 days"), ("365", "after one year"), ("", "never")]


_RANGES = [("", "everything"), ("-24h", "the last 24 hours"), ("-7d", "the last 7 days"), ("-30d", "the last 30 days"),
           ("-1y", "the last year"), ("-5y", "the last 5 years")]  # fmt: skip


class ChartForm(CheckedChartForm):
    """A form that creates a chart of one aggregate, with the essential fields; the admin has all fields."""

    start = forms.ChoiceField(label="Shows", choices=_RANGES, required=False)
    field_order = ["title", "kind", "start"]

    class Meta:
        model = Chart
        fields = ["title", "kind", "start"]

    @staticmethod
    def new(aggregate: str) -> Chart:
        """Return an unsaved chart of `aggregate`, with a title made from its name."""
        title = aggregate.replace("_", " ").replace(".", " ").strip()
        return Chart(aggregate=aggregate, title=(title[:1].upper() + title[1:])[:120])

    def save(self, commit: bool = True) -> Chart:
        """Save the chart under a unique slug made from its title."""
        wanted = slugify(self.instance.title)[:40] or "chart"
        taken = set(Chart.objects.filter(slug__startswith=wanted).values_list("slug", flat=True))
        names = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
        self.instance.slug = next(name for name in names if name not in taken)
        if self.instance.kind == Chart.Kind.STACKED:
            self.instance.fill = Chart.Fill.ZERO  # a missing value adds nothing to the stack
        chart: Chart = super().save(commit)
        return chart


class EmbedLinkForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that creates an embed link to one chart or dashboard."""

    days = forms.ChoiceField(label="Expires", choices=_LIFETIMES, required=False, initial="365")
    field_order = ["name", "origins", "days", "prefix", "range_adjustable"]

    class Meta:
        model = EmbedLink
        fields = ["name", "origins", "prefix", "range_adjustable"]
        labels = {
            "name": "Name",
            "origins": "Site that will show it",
            "range_adjustable": "Viewers may choose the range",
        }
        help_texts = {"origins": "Its address, such as https://wiki.example.org. If empty, no other site can show it."}

    @staticmethod
    def new(shown: Chart | Dashboard, user: Any) -> EmbedLink:
        """Return an unsaved link to a chart or dashboard."""
        kind = "chart" if isinstance(shown, Chart) else "dashboard"
        return EmbedLink(created_by=user if user.is_authenticated else None, **{kind: shown})

    def clean_origins(self) -> str:
        """Reduce addresses copied from a browser to scheme and host; the model checks the rest."""
        words = str(self.cleaned_data["origins"]).replace(",", " ").split()
        return " ".join(_origin(word) for word in words)

    def save(self, commit: bool = True) -> EmbedLink:
        """Save the link with its expiry time."""
        days = self.cleaned_data["days"]
        self.instance.expires = timezone.now() + timedelta(days=int(days)) if days else None
        link: EmbedLink = super().save(commit)
        return link


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in {"http", "https"} and parts.netloc else address
