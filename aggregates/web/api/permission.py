"""Check whether a request may use a view at all."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from aggregates.web.auth.access import READ, rights_of


class Capability(BasePermission):
    """Require the capability that the view names for the method, `read` by default."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise `NotLoggedInError` or `ForbiddenError`."""
        needed = getattr(view, "needs", {}).get(request.method, READ)
        rights_of(request).require(needed)
        if getattr(view, "unlimited", False) and needed == READ:
            rights_of(request).require_unlimited()
        return True
