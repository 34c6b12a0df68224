"""Log in by the form of the pages."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.parse
import urllib.request

from tests.support.web.server import Server


def answer_to(server: Server, password: str, name: str = "admin") -> bytes:
    """Return the page that answers a login over new connections."""
    address = server.folder.address("web").rstrip("/") + "/login/"
    cookies = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    page = opener.open(address, timeout=60).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = {"username": name, "password": password, "csrfmiddlewaretoken": token[1]}
    request = urllib.request.Request(address, urllib.parse.urlencode(form).encode(), {"Referer": address})
    return bytes(opener.open(request, timeout=60).read())
