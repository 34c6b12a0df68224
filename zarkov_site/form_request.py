"""Read the forms of requests in a thread, so that none holds up other requests, and without files.

Django's parsers take up to 6 s for 16 MiB of small parts, and none of our forms has a file.
"""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.multipartparser import MultiPartParserError

from aggregates.web.body_limit import FORM_TYPES
from aggregates.web.compute_thread import compute


class FormRequest(WSGIRequest):
    """A request of which a form is received as a whole, at most `DATA_UPLOAD_MAX_MEMORY_SIZE`, before it is parsed."""

    def _load_post_and_files(self) -> None:
        is_readable = hasattr(self, "_body") or not self._read_started  # type: ignore[attr-defined]
        if self.method == "POST" and self.content_type in FORM_TYPES and is_readable:
            compute(len(self.body), self._parse_form)
        else:
            super()._load_post_and_files()

    def _parse_form(self) -> None:
        try:
            super()._load_post_and_files()
        except TypeError:  # of Python's reader of a parameter that stands there with a number and without (RFC 2231)
            self._mark_post_parse_error()  # type: ignore[attr-defined]
            raise MultiPartParserError("the form has a part with a header that cannot be read") from None


class FormHandler(WSGIHandler):
    """Django's WSGI application, whose requests read their forms so."""

    request_class = FormRequest


class NoFiles(FileUploadHandler):
    """Refuse files: Django would keep large ones in the system's folder for temporary files."""

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        """Raise `MultiPartParserError`."""
        raise MultiPartParserError(f"{field_name[:60]!a} is a file: no form here has one")
