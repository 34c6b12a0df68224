"""Whether a request may use a view at all."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from aggregates.web.auth.access import READ, rights_of


class Capability(BasePermission):
    """Lets in who has the capability that the view names for the method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """True, or raises the error that says what is missing."""
        needed = getattr(view, "needs", {}).get(request.method, READ)
        rights_of(request).require(needed)
        if getattr(view, "unlimited", False) and needed == READ:
            rights_of(request).require_unlimited()
        return True
