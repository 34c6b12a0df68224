"""Decide which actions the admin offers to whom."""

from __future__ import annotations

from django.http import HttpRequest


class OperatePermissionMixin:
    """Give a `ModelAdmin` the permission `operate`, which its actions can require."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return True if the user may start, cancel and verify runs."""
        return request.user.has_perm("aggregates.operate_aggdef")
