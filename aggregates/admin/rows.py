"""Act on many rows that are selected in the admin, without holding up other requests of the web process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected as delete_any_number
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ingest.turn import sleeping_turn

MOST_DELETED: Final = 300  # rows at once, with all that hangs on them, in one transaction


def in_turns(rows: Iterable[Any]) -> Iterator[Any]:
    """Yield rows on which much is done each, with pauses: not within a transaction, for whose lock others wait."""
    turn = sleeping_turn()
    for row in rows:
        turn()
        yield row


@admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
def delete_selected(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponseBase | None:
    """Ask for confirmation and delete, as Django does, but at most `MOST_DELETED` rows: it lists each of them."""
    count = queryset.count()
    if count <= MOST_DELETED:
        return delete_any_number(modeladmin, request, queryset)
    problem = f"{count} are selected, and at most {MOST_DELETED} are deleted at once: select fewer, or filter the list."
    modeladmin.message_user(request, problem, messages.ERROR)
    return None


admin.site.add_action(delete_selected)


class ShortListMixin(admin.ModelAdmin):
    """Add a list that does not read the `long_fields` of its rows."""

    long_fields: tuple[str, ...] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list."""
        return _ShortList


class _ShortList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """Read the rows of the page."""
        self.queryset = self.queryset.defer(*cast(ShortListMixin, self.model_admin).long_fields)
        super().get_results(request)
