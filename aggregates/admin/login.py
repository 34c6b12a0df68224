"""Logins in the admin: Django's pages of users, on which a new password holds up no other request."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from aggregates.web.auth.password_hash import hashed_before

admin.site.unregister(User)


@admin.register(User)
class ThreadedUserAdmin(UserAdmin):
    """Django's pages of users. Passwords of existing ones are changed outside of transactions anyway."""

    filter_horizontal = ("user_permissions",)
    autocomplete_fields = ("groups",)  # there may be thousands, all of which a list would hold

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Hash the password before the transaction, in which no other greenlet could run."""
        password = request.POST.get("password1")
        if not password or not self.has_add_permission(request):
            return super().add_view(request, form_url, extra_context)
        with hashed_before(password):
            return super().add_view(request, form_url, extra_context)
