"""Serve the API root and the OpenAPI document."""

from __future__ import annotations

from typing import Any, ClassVar

from django.urls import get_script_prefix, reverse, set_script_prefix
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from aggregates.web.api.api_view import ApiView
from aggregates.web.api.renderer import AnswerRenderer
from aggregates.web.compute_thread import ComputeThreads
from aggregates.web.public_link import public_link
from ingest import __version__


class RootView(ApiView):
    """Names and addresses of all endpoints."""

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """List the endpoints by name."""
        names = ("events", "collections", "aggdefs", "runs", "tasks", "jobs", "quarantine", "schema")
        found = {name: public_link(request._request, reverse(f"api:{name}")) for name in names}
        of_one = {"series": ["NAME"], "ranked": ["NAME"], "export": ["NAME", "csv"], "live": ["NAME"]}
        for name, parts in of_one.items():
            found[name] = public_link(request._request, reverse(f"api:{name}", args=parts))
        return Response({"version": __version__, **found})


_threads = ComputeThreads(1)


class OnceGenerator(SchemaGenerator):
    """Make the document once for each path prefix: it is the same for everybody, and takes 0.2 s the first time."""

    _made: ClassVar[dict[str, Any]] = {}

    def get_schema(self, request: Any = None, public: bool = False) -> Any:
        """Return the document, which nobody may change."""
        prefix = get_script_prefix()
        if prefix not in self._made:
            self._made[prefix] = _threads.call(self._generate, prefix, request, public)
        return self._made[prefix]

    def _generate(self, prefix: str, request: Any, public: bool) -> Any:
        """Make the document in a thread, which does not know the prefix of the request."""
        set_script_prefix(prefix)
        return super().get_schema(request, public)  # type: ignore[no-untyped-call]


class SchemaView(SpectacularAPIView):
    """Return the OpenAPI document of this API, as YAML or JSON."""

    throttle_scope = "api"
    generator_class = OnceGenerator

    def _get_version_parameter(self, request: Request) -> None:
        """Return None: there is one version, and what a request asks for would be part of a header."""

    def handle_exception(self, exc: Exception) -> Response:
        """Answer errors as JSON here too."""
        request: Any = self.request
        request.accepted_renderer, request.accepted_media_type = AnswerRenderer(), "application/json"
        response: Response = super().handle_exception(exc)
        return response
