"""Charts of aggregates, and dashboards that arrange them."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.urls import reverse

from ingest.time_zone import is_zone

_FIELDS = RegexValidator(
    r"\A[^,$\s]+(\s*,\s*[^,$\s]+)*\Z", "Names of fields with commas between them, such as: insertions, deletions"
)


class Chart(models.Model):
    """One chart of one aggregate."""

    class Kind(models.TextChoices):
        LINE = "line", "Line"
        AREA = "area", "Area"
        STACKED = "stacked", "Stacked areas"
        BAR = "bar", "Bars"
        TABLE = "table", "Table"
        NUMBER = "number", "Single number with its trend"

    class Fill(models.TextChoices):
        NONE = "", "Leave out"
        GAP = "gap", "Show a gap"
        ZERO = "zero", "Show 0"
        PREVIOUS = "previous", "Show the value before"

    slug = models.SlugField(unique=True, help_text="Part of the address: /charts/SLUG/")
    title = models.CharField(max_length=120)
    description = models.TextField(
        max_length=2_000, blank=True, help_text="A sentence below the title. Say what is counted."
    )
    aggregate = models.CharField(
        max_length=200, help_text="The aggregate to show, as in the list of aggregates, such as commits_by_day."
    )
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.LINE)
    fields = models.CharField(
        max_length=500,
        blank=True,
        validators=[_FIELDS],
        help_text="Which fields of the values, such as: insertions, deletions. Empty = all that are numbers.",
    )
    prefix = models.CharField(
        max_length=200, blank=True, help_text="Only keys that begin with this, such as celery/ . Empty = all."
    )
    series_limit = models.PositiveSmallIntegerField(
        "most series",
        default=8,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text="The largest ones are shown, 1 to 50.",
    )
    start = models.CharField(
        "from", max_length=40, blank=True, help_text="-7d, -12h, -6mo, today, or a date. Empty = from the first on."
    )
    end = models.CharField("to", max_length=40, blank=True, help_text="As above. Empty = up to now.")
    zone = models.CharField(
        "time zone", max_length=64, blank=True, help_text="Such as Europe/Berlin. Empty = that of the configuration."
    )
    fill = models.CharField("periods without data", max_length=10, choices=Fill.choices, default=Fill.NONE, blank=True)
    unit = models.CharField(max_length=20, blank=True, help_text="Shown behind the numbers, such as ms or commits.")
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("chart", args=[self.slug])

    @property
    def effective_zone(self) -> str:
        """Return the time zone of the chart; the configured one if its own is empty or unknown."""
        return self.zone if self.zone and is_zone(self.zone) else settings.ZARKOV.time_zone

    def field_list(self) -> tuple[str, ...]:
        """Return the fields as a tuple; empty means all numeric fields."""
        return tuple(name.strip() for name in self.fields.split(",") if name.strip())


class Dashboard(models.Model):
    """Charts on one page, in order."""

    slug = models.SlugField(unique=True, help_text="Part of the address: /dashboards/SLUG/")
    title = models.CharField(max_length=120)
    description = models.TextField(max_length=2_000, blank=True)
    position = models.PositiveSmallIntegerField(
        default=10,
        help_text="Smaller numbers come first. The overview shows the first chart of the first dashboard.",
    )
    charts = models.ManyToManyField(Chart, through="DashboardItem", related_name="dashboards")

    class Meta:
        ordering = ["position", "title"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("dashboard", args=[self.slug])

    def ordered_charts(self) -> list[Chart]:
        """Return the charts from top to bottom; each has `wide` set from its item."""
        items = self.items.select_related("chart").order_by("position", "pk")
        charts = []
        for item in items:
            item.chart.wide = item.wide  # type: ignore[attr-defined]
            charts.append(item.chart)
        return charts


class DashboardItem(models.Model):
    """The place of a chart on a dashboard."""

    dashboard = models.ForeignKey(Dashboard, on_delete=models.CASCADE, related_name="items")
    chart = models.ForeignKey(Chart, on_delete=models.CASCADE, related_name="places")
    position = models.PositiveSmallIntegerField(default=0, help_text="Smaller numbers come first.")
    wide = models.BooleanField(default=False, help_text="Takes the whole width.")

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return f"{self.chart} on {self.dashboard}"
