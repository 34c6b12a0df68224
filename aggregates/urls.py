"""URL patterns of this app; see docs/http-api.md."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from aggregates.web import health, legacy
from aggregates.web.auth.login import RateLimitedLoginForm
from aggregates.web.pages import streams, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("aggregates/", views.aggregates, name="aggregates"),
    path("aggregates/<output:name>/", views.aggregate, name="aggregate"),
    path("charts/", views.charts, name="charts"),
    path("charts/<slug:slug>/", views.chart, name="chart"),
    path("dashboards/", views.dashboards, name="dashboards"),
    path("dashboards/<slug:slug>/", views.dashboard, name="dashboard"),
    path("embed/<str:token>/", views.embedded, name="embed"),
    path("embed/<str:token>/live/", streams.embedded, name="embed-live"),
    path("live/charts/", streams.charts, name="live-charts"),
    path("live/pulse/", streams.overview, name="live-overview"),
    path("jobs/", views.jobs, name="jobs"),
    path("live/jobs/", streams.jobs, name="live-jobs"),
    path(
        "login/",
        LoginView.as_view(template_name="zarkov/login.html", authentication_form=RateLimitedLoginForm),
        name="login",
    ),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("api/v1/", include("aggregates.web.api.urls")),
    path("q", legacy.q, name="q"),
    path("qs", legacy.qs, name="qs"),
    path("qr", legacy.qr, name="qr"),
    path("collections", legacy.collections, name="collections"),
    path("favicon.ico", views.icon),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
]
