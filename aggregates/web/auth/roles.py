"""Create the groups viewer, operator and editor with their permissions in the admin."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

from aggregates.web.auth.access import GROUP_CAPABILITIES

_ACTIONS = {
    "viewer": {"view"},
    "operator": {"view", "operate"},
    "editor": {"view", "operate", "add", "change", "delete"},
}
_OPERATED = {"change_quarantineentry"}  # also needed for operating, as in the REST API
_APPS = ("aggregates", "ingest")
_NOT_FOR_GROUPS = {"accesstoken"}  # only superusers create tokens


def ensure_groups(sender: Any, **kwargs: Any) -> None:
    """Create the three groups after a migration, and add missing permissions of our apps."""
    for label in _APPS:
        create_permissions(apps.get_app_config(label), verbosity=0)
    permissions = Permission.objects.filter(content_type__app_label__in=_APPS).exclude(
        content_type__model__in=_NOT_FOR_GROUPS
    )
    for name in GROUP_CAPABILITIES:
        group, _ = Group.objects.get_or_create(name=name)
        operated = _OPERATED if "operate" in _ACTIONS[name] else set()
        wanted = [p for p in permissions if p.codename.partition("_")[0] in _ACTIONS[name] or p.codename in operated]
        group.permissions.add(*wanted)
