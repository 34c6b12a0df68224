"""Choose how answers of the API are rendered: as JSON, including BSON types, for programs, and as pages for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request

from aggregates.web.compute_thread import LARGE_BYTES, compute
from aggregates.web.json_encoding import to_json


class Negotiation(DefaultContentNegotiation):
    """Choose a renderer by the media types that the client accepts."""

    def get_accept_list(self, request: Request) -> list[str]:
        """Return the media types that the client accepts, except those with an extended parameter (RFC 8187).

        None of ours has such a parameter, and Python fails on one that comes twice: `q*=x; q*0=y`.
        """
        return [each for each in super().get_accept_list(request) if "*" not in each.partition(";")[2]]


@dataclass(frozen=True)
class EncodedAnswer:
    """An answer that is JSON already."""

    encoded: bytes


class AnswerRenderer(JSONRenderer):
    """A JSON renderer for BSON types, which writes NaN as null."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        """Return the answer as bytes, indented for the browsable API and those that ask for it, unless it is large."""
        if data is None:
            return b""
        encoded = data.encoded if isinstance(data, EncodedAnswer) else to_json(data)
        indent = self.get_indent(accepted_media_type or "", renderer_context or {})
        if indent is None or len(encoded) > LARGE_BYTES:
            return encoded
        return compute(len(encoded), _indented, encoded, indent)


def _indented(encoded: bytes, indent: int) -> bytes:
    text = json.dumps(json.loads(encoded), indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")  # JSON can hold half of a surrogate pair, UTF-8 cannot


MAX_SHOWN_CHARS = 100_000  # of an answer on a page: more is for programs, and would keep a browser busy for minutes
_MAX_PARTS = 12  # of a path; a name with more slashes gets no breadcrumbs, for which each of them is looked up


class PageRenderer(BrowsableAPIRenderer):
    """A page that shows the JSON of an answer, or its start if it is long, and forms for what the viewer may do."""

    def get_content(self, renderer: Any, data: Any, accepted_media_type: Any, renderer_context: Any) -> str:
        """Return the indented JSON, cut off after `MAX_SHOWN_CHARS`; of what is far longer, without the indents."""
        if isinstance(data, EncodedAnswer) and len(data.encoded) > MAX_SHOWN_CHARS:
            content = data.encoded.decode()
        else:
            content = super().get_content(renderer, data, accepted_media_type, renderer_context)
        if len(content) <= MAX_SHOWN_CHARS:
            return content
        left = len(content) - MAX_SHOWN_CHARS
        return f"{content[:MAX_SHOWN_CHARS]}\n... {left} more characters: send the header Accept: application/json"

    def get_breadcrumbs(self, request: Request) -> list[tuple[str, str]]:
        """Return the pages above this one."""
        return [] if request.path.count("/") > _MAX_PARTS else super().get_breadcrumbs(request)
