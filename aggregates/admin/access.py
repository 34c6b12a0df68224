"""Tokens and embed links in the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from aggregates.models.access import SCOPES, AccessToken, EmbedLink
from aggregates.web import embed
from aggregates.web.auth.tokens import make_token


class TokenForm(forms.ModelForm):
    """Asks for what a new token may do."""

    scopes = forms.MultipleChoiceField(
        choices=[
            ("ingest", "ingest: send events"),
            ("read", "read: aggregates, charts, events"),
            ("operate", "operate: run and change aggregates"),
        ],
        widget=forms.CheckboxSelectMultiple,
        initial=["read"],
    )
    days = forms.IntegerField(
        label="Works for (days)", min_value=1, max_value=36500, required=False, help_text="Empty = without an end."
    )

    class Meta:
        model = AccessToken
        fields = ("name", "collections")


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):
    """Tokens: shown once when they are made, then only what they may do."""

    list_display = ("name", "scopes", "collections", "user", "created", "expiry")
    search_fields = ("name", "user__username")
    actions = ("revoke",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form for a new one; there is nothing to change on an old one."""
        if obj is None:
            kwargs["form"] = TokenForm
            kwargs["fields"] = ("name", "collections")
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What a person decides, or what was decided."""
        if obj is None:
            return ("name", "scopes", "collections", "days")
        return ("name", "scopes", "collections", "user", "created", "expiry")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A token is made and deleted, never changed."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only for superusers: a token is somebody's right."""
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the token and show it this once."""
        chosen = form.cleaned_data
        scopes = [scope for scope in SCOPES if scope in chosen["scopes"]]
        token, text = make_token(
            chosen["name"], scopes, collections=obj.collection_list(), days=chosen.get("days") or None
        )
        obj.__dict__.update(token.__dict__)
        self.message_user(request, format_html("The token, shown only now: <code>{}</code>", text), messages.WARNING)

    @admin.action(description="Revoke the chosen tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Delete them: what uses them is refused from now on."""
        count = queryset.count()
        queryset.delete()
        self.message_user(request, f"{count} revoked.")


@admin.register(EmbedLink)
class EmbedLinkAdmin(admin.ModelAdmin):
    """Links to charts in other people's pages."""

    list_display = ("name", "shows", "prefix", "origins", "expires", "working")
    list_filter = ("revoked",)
    search_fields = ("name", "origins", "prefix")
    autocomplete_fields = ("chart", "dashboard")
    readonly_fields = ("code",)
    actions = ("revoke",)
    fieldsets = (
        (None, {"fields": ("name", "chart", "dashboard")}),
        ("What others see", {"fields": ("prefix", "range_adjustable")}),
        ("Where and how long", {"fields": ("origins", "expires", "revoked")}),
        ("To copy", {"fields": ("code",)}),
    )

    @admin.display(description="Shows")
    def shows(self, link: EmbedLink) -> str:
        """What it shows."""
        return link.title()

    @admin.display(description="Works", boolean=True)
    def working(self, link: EmbedLink) -> bool:
        """Whether it is neither revoked nor expired."""
        return link.works()

    @admin.display(description="HTML for the page")
    def code(self, link: EmbedLink) -> str:
        """The iframe, with the address as this site is reached now."""
        if link.pk is None:
            return "Save it first."
        address = link.asked_by.build_absolute_uri(reverse("embed", args=[embed.token_of(link)]))  # type: ignore[attr-defined]
        return format_html("<code>{}</code>", embed.code(link, address))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Leave the request with the link: its host is part of the code to copy."""
        if obj is not None:
            obj.asked_by = request
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Remember who made it."""
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    @admin.action(description="Revoke the chosen links")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """From now on they show nothing."""
        self.message_user(request, f"{queryset.update(revoked=True)} revoked.")
