"""Visit pages and post forms as a browser does, without one."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class Visitor:
    """A client that keeps its cookies and follows no redirects. It trusts `certificate`, and connects from `source`."""

    def __init__(self, origin: str, certificate: Path | None = None, source: str = "") -> None:
        self.origin = origin
        self.cookies = CookieJar()
        trusting = ssl.create_default_context(cafile=certificate)
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            _From(source, trusting) if source else urllib.request.HTTPSHandler(context=trusting),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPCookieProcessor(self.cookies),
        ):
            self._opener.add_handler(handler)

    def open(self, path: str, data: bytes | None = None, **headers: str) -> Any:
        """Return the open answer."""
        request = urllib.request.Request(self.origin + path if path.startswith("/") else path, data)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        return self._opener.open(request, timeout=90)

    def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        """Return status, headers and text."""
        with self.open(path, **headers) as answer:
            return answer.status, answer.headers, answer.read().decode()

    def post(self, path: str, **fields: str) -> tuple[int, Any, str]:
        """Post a form as a browser does: with the token of the form's page, and with `Origin` and `Referer`."""
        page = self.get(path)[2]
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert found, page
        data = urlencode({"csrfmiddlewaretoken": found[1], **fields}).encode()
        origin = re.match(r"https?://[^/]+", self.origin + path if path.startswith("/") else path)
        assert origin
        with self.open(path, data, Origin=origin[0], Referer=f"{origin[0]}/") as answer:
            return answer.status, answer.headers, answer.read().decode()


class _From(urllib.request.HTTPSHandler):
    """Connect from one of the addresses of loopback."""

    def __init__(self, source: str, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._source, self._trusting = source, context

    def https_open(self, request: urllib.request.Request) -> Any:
        def connect(host: str, **options: Any) -> http.client.HTTPSConnection:
            options["context"] = self._trusting
            return http.client.HTTPSConnection(host, source_address=(self._source, 0), **options)

        return self.do_open(connect, request)  # type: ignore[arg-type]
