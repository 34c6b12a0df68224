"""Tokens and embed links in the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from aggregates.admin.form_field import ExactIntegerField
from aggregates.models.access import SCOPES, AccessToken, EmbedLink
from aggregates.web import embed
from aggregates.web.auth.token_creation import make_token
from aggregates.web.public_link import public_link


class TokenForm(forms.ModelForm):
    """A form that asks for the scopes and limits of a new token."""

    scopes = forms.MultipleChoiceField(
        choices=[
            ("ingest", "ingest: send events"),
            ("read", "read: aggregates, charts, events"),
            ("operate", "operate: run and change aggregates"),
        ],
        widget=forms.CheckboxSelectMultiple,
        initial=["read"],
    )
    days = ExactIntegerField(
        label="Valid for (days)", min_value=1, max_value=36500, required=False, help_text="Empty = no expiry."
    )

    class Meta:
        model = AccessToken
        fields = ("name", "collections")


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):
    """Tokens. The text of a token is shown once, when it is created; later only its scopes and limits."""

    list_display = ("name", "scopes", "collections", "user", "created", "expiry")
    search_fields = ("name", "user__username")
    actions = ("revoke",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return `TokenForm` for a new token; an existing one cannot be changed."""
        if obj is None:
            kwargs["form"] = TokenForm
            kwargs["fields"] = ("name", "collections")
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("name", "scopes", "collections", "days")
        return ("name", "scopes", "collections", "user", "created", "expiry")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a token is created and deleted, never changed."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return True for superusers only, because a token grants rights."""
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Create the token and show its text, this once."""
        chosen = form.cleaned_data
        scopes = [scope for scope in SCOPES if scope in chosen["scopes"]]
        token, text = make_token(
            chosen["name"], scopes, collections=obj.collection_list(), days=chosen.get("days") or None
        )
        obj.__dict__.update(token.__dict__)
        self.message_user(request, format_html("The token, shown only now: <code>{}</code>", text), messages.WARNING)

    @admin.action(description="Revoke the selected tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the tokens: requests with them are refused from now on."""
        count = queryset.count()
        queryset.delete()
        self.message_user(request, f"{count} revoked.")


@admin.register(EmbedLink)
class EmbedLinkAdmin(admin.ModelAdmin):
    """Embed links, which show charts on other sites."""

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
        return link.title()

    @admin.display(description="Active", boolean=True)
    def working(self, link: EmbedLink) -> bool:
        return link.works()

    @admin.display(description="HTML for the page")
    def code(self, link: EmbedLink) -> str:
        """Return the iframe, with the host of the present request in its address, for those who may make such links.

        The address is a right to read, without a login and for as long as the link works.
        """
        if link.pk is None:
            return "Save it first."
        if not self.has_change_permission(link.asked_by, link):  # type: ignore[attr-defined]
            return "Shown to those who may change embed links."
        address = public_link(link.asked_by, reverse("embed", args=[embed.token_of(link)]))  # type: ignore[attr-defined]
        return format_html("<code>{}</code>", embed.iframe_html(link, address))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Attach the request to the link: its host is part of the HTML to copy."""
        if obj is not None:
            obj.asked_by = request
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    @admin.action(description="Revoke the selected links")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Revoke the links: they show nothing from now on."""
        self.message_user(request, f"{queryset.update(revoked=True)} revoked.")
