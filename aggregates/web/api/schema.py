"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.views import SpectacularAPIView
from rest_framework.response import Response

from aggregates.web.api.renderer import AnswerRenderer


class SchemaView(SpectacularAPIView):
    """The API described for programs, as YAML or JSON."""

    throttle_scope = "api"

    def handle_exception(self, exc: Exception) -> Response:
        """Errors are JSON here too."""
        request: Any = self.request
        request.accepted_renderer, request.accepted_media_type = AnswerRenderer(), "application/json"
        response: Response = super().handle_exception(exc)
        return response
