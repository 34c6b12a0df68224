"""URLs below `/api/v1/`."""

from django.urls import path, re_path

from aggregates.web.api.aggdefs import (
    AggDefRunView,
    AggDefsView,
    AggDefView,
    RunCancelView,
    RunsView,
    RunView,
    TasksView,
)
from aggregates.web.api.events import EventsView
from aggregates.web.api.jobs import JobCancelView, JobsView, JobView
from aggregates.web.api.quarantine import (
    QuarantineCountsView,
    QuarantineEntryView,
    QuarantineRawView,
    QuarantineReplayView,
    QuarantineView,
)
from aggregates.web.api.schema import RootView, SchemaView
from aggregates.web.api.series import CollectionsView, ExportView, LiveView, RankedView, SeriesView

app_name = "api"

urlpatterns = [
    path("", RootView.as_view(), name="root"),
    path("events/", EventsView.as_view(), name="events"),
    path("aggdefs/", AggDefsView.as_view(), name="aggdefs"),
    path("aggdefs/<str:name>/", AggDefView.as_view(), name="aggdef"),
    path("aggdefs/<str:name>/run/", AggDefRunView.as_view(), name="aggdef-run"),
    path("runs/", RunsView.as_view(), name="runs"),
    path("runs/<str:uid>/", RunView.as_view(), name="run"),
    path("runs/<str:uid>/cancel/", RunCancelView.as_view(), name="run-cancel"),
    path("tasks/", TasksView.as_view(), name="tasks"),
    path("jobs/", JobsView.as_view(), name="jobs"),
    path("jobs/<str:job_id>/", JobView.as_view(), name="job"),
    path("jobs/<str:job_id>/cancel/", JobCancelView.as_view(), name="job-cancel"),
    path("quarantine/", QuarantineView.as_view(), name="quarantine"),
    path("quarantine/counts/", QuarantineCountsView.as_view(), name="quarantine-counts"),
    path("quarantine/replay/", QuarantineReplayView.as_view(), name="quarantine-replay"),
    path("quarantine/<str:key>/", QuarantineEntryView.as_view(), name="quarantine-entry"),
    path("quarantine/<str:key>/raw/", QuarantineRawView.as_view(), name="quarantine-raw"),
    path("collections/", CollectionsView.as_view(), name="collections"),
    path("series/<output:name>/", SeriesView.as_view(), name="series"),
    path("ranked/<output:name>/", RankedView.as_view(), name="ranked"),
    re_path(r"^export/(?P<name>[^\0]+)\.(?P<form>csv|jsonl)$", ExportView.as_view(), name="export"),
    path("live/<output:name>/", LiveView.as_view(), name="live"),
    path("schema/", SchemaView.as_view(), name="schema"),
]
