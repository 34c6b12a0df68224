"""Answer a request with an error outside of Django: from a WSGI application (PEP 3333) around the site."""

from __future__ import annotations

import json
from typing import Any

from aggregates.web.exceptions import WebError

_STATUS = {
    400: "400 Bad Request", 413: "413 Content Too Large", 501: "501 Not Implemented", 503: "503 Service Unavailable",
}  # fmt: skip


def answer_error(error: WebError, start_response: Any) -> list[bytes]:
    """Start the answer, and return its body: the JSON of `error`."""
    content = json.dumps(error.body()).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    headers += [*error.headers().items(), ("X-Content-Type-Options", "nosniff")]
    start_response(_STATUS[error.status], headers)
    return [content]
