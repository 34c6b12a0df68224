"""Create the definitions that come with Zarkov: AggDefs, charts, and the dashboard that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aggregates import services
from aggregates.models import AggDef, Chart, Dashboard, DashboardItem

TASKS = "aggregates.agg_tasks."


@dataclass(frozen=True)
class BundledAggregate:
    """One AggDef."""

    name: str
    task: str  # name of a class in aggregates.agg_tasks
    description: str
    filter: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BundledChart:
    """One chart, and its place on the dashboard."""

    slug: str
    title: str
    aggregate: str
    kind: str
    description: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wide: bool = False


@dataclass(frozen=True)
class BundledDashboard:
    """A dashboard with its aggregates and charts."""

    slug: str
    title: str
    description: str
    aggregates: Sequence[BundledAggregate]
    charts: Sequence[BundledChart]
    on_error: str = "fail"  # of its aggregates
    position: int = 10  # among the dashboards

    def define(self) -> None:
        """Create AggDefs, charts and dashboard; existing ones are not changed."""
        for aggregate in self.aggregates:
            if not AggDef.objects.filter(name=aggregate.name).exists():
                services.define(
                    name=aggregate.name,
                    task_name=TASKS + aggregate.task,
                    description=aggregate.description,
                    filter=dict(aggregate.filter),
                    realtime=True,
                    on_error=self.on_error,
                )
        titled = {"title": self.title, "description": self.description, "position": self.position}
        dashboard, _ = Dashboard.objects.get_or_create(slug=self.slug, defaults=titled)
        for position, bundled in enumerate(self.charts):
            given = asdict(bundled)
            slug, options, wide = given.pop("slug"), given.pop("options"), given.pop("wide")
            chart, _ = Chart.objects.get_or_create(slug=slug, defaults=given | options)
            place = {"position": position, "wide": wide}
            DashboardItem.objects.get_or_create(dashboard=dashboard, chart=chart, defaults=place)
