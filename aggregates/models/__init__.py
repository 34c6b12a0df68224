"""The models of this app."""

from aggregates.models.access import AccessToken, EmbedLink, LoginCount
from aggregates.models.aggdef import AggDef
from aggregates.models.alert import Alert
from aggregates.models.chart import Chart, Dashboard, DashboardItem
from aggregates.models.run import Run
from aggregates.models.task_switch import TaskSwitch

__all__ = [
    "AccessToken",
    "AggDef",
    "Alert",
    "Chart",
    "Dashboard",
    "DashboardItem",
    "EmbedLink",
    "LoginCount",
    "Run",
    "TaskSwitch",
]
