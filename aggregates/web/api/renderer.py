"""Render answers of the API as JSON, including BSON types."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import JSONRenderer

from aggregates.web.json_encoding import plain, to_json


class AnswerRenderer(JSONRenderer):
    """A JSON renderer for BSON types, which writes NaN as null."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        """Return the answer as bytes, indented for the browsable API."""
        if data is None:
            return b""
        if self.get_indent(accepted_media_type or "", renderer_context or {}) is not None:
            rendered: bytes = super().render(plain(data), accepted_media_type, renderer_context)
            return rendered
        return to_json(data)
