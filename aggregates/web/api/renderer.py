"""JSON answers of the API, with MongoDB's types in them."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import JSONRenderer

from aggregates.web.json_encoding import plain, to_json


class AnswerRenderer(JSONRenderer):
    """Like the REST framework's, but knows BSON types and writes NaN as null."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        """The answer as bytes; indented for the browsable pages."""
        if data is None:
            return b""
        if self.get_indent(accepted_media_type or "", renderer_context or {}) is not None:
            rendered: bytes = super().render(plain(data), accepted_media_type, renderer_context)
            return rendered
        return to_json(data)
