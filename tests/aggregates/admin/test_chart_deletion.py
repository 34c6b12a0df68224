"""Delete charts in the admin: the page counts what goes with them, and all of it goes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from aggregates.models import Chart, Dashboard, DashboardItem, EmbedLink

pytestmark = pytest.mark.django_db
LINKS = 700


@pytest.fixture
def chart() -> Chart:
    """Return a chart with many embed links, which is on a dashboard."""
    made = Chart.objects.create(title="Days", slug="days", aggregate="days", kind="line")
    EmbedLink.objects.bulk_create(EmbedLink(name=f"page {number}", chart=made) for number in range(LINKS))
    DashboardItem.objects.create(dashboard=Dashboard.objects.create(title="All", slug="all"), chart=made, position=1)
    return made


def test_a_chart_is_deleted_with_its_links_which_are_counted_and_not_listed(
    admin_client: Any, chart: Chart, django_assert_max_num_queries: Any
) -> None:
    address = reverse("admin:aggregates_chart_delete", args=[chart.pk])
    page = admin_client.get(address).content.decode()
    assert f"Embed links: {LINKS}" in page
    assert "Dashboard items: 1" in page
    assert "page 17" not in page
    with django_assert_max_num_queries(25):
        assert admin_client.post(address, {"post": "yes"}).status_code == 302
    assert not Chart.objects.exists()
    assert not EmbedLink.objects.exists()
    assert not DashboardItem.objects.exists()
    assert Dashboard.objects.exists()


def test_who_may_not_delete_links_cannot_delete_the_chart_that_has_some(client: Any, chart: Chart) -> None:
    user = User.objects.create_user("editor", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=["view_chart", "delete_chart"]))
    client.force_login(user)
    address = reverse("admin:aggregates_chart_delete", args=[chart.pk])
    assert "embed link" in client.get(address).content.decode()
    assert client.post(address, {"post": "yes"}).status_code == 403
    EmbedLink.objects.all().delete()
    client.post(address, {"post": "yes"})
    assert not Chart.objects.exists()
