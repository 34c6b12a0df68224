"""Route `/admin/` to the admin, whose login is rate-limited, and everything else to `aggregates.urls`."""

from django.contrib import admin
from django.urls import include, path, reverse_lazy

from aggregates.web.auth.login import RateLimitedAdminLoginForm

admin.autodiscover()
admin.site.login_form = RateLimitedAdminLoginForm
admin.site.site_url = reverse_lazy("overview")  # type: ignore[assignment]  # below the prefix of each request

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("aggregates.urls")),
]

handler400 = "aggregates.web.pages.page_access.bad_request"
handler404 = "aggregates.web.pages.page_access.not_found"
handler500 = "aggregates.web.pages.page_access.server_error"
