"""Forms of the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from aggregates.models import EmbedLink
from aggregates.models.chart import Chart

_LIFETIMES = [("1", "one day"), ("30", "30 days"), ("365", "one year"), ("", "no end")]


class EmbedLinkForm(forms.ModelForm):  # type: ignore[type-arg]
    """Makes a link to one chart."""

    days = forms.ChoiceField(label="Works for", choices=_LIFETIMES, required=False, initial="365")
    field_order = ["name", "origins", "days", "prefix", "range_adjustable"]

    class Meta:
        model = EmbedLink
        fields = ["name", "origins", "prefix", "range_adjustable"]
        labels = {"name": "Name", "origins": "Sites", "range_adjustable": "Viewers may choose the range"}

    @staticmethod
    def new(chart: Chart, user: Any) -> EmbedLink:
        """An unsaved link to `chart`."""
        return EmbedLink(chart=chart, created_by=user if user.is_authenticated else None)

    def save(self, commit: bool = True) -> EmbedLink:
        """Save the link with the end of its life."""
        days = self.cleaned_data["days"]
        self.instance.expires = timezone.now() + timedelta(days=int(days)) if days else None
        link: EmbedLink = super().save(commit)
        return link
