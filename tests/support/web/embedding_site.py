"""Another site with one page, which embeds charts, and the links that it embeds."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.web.server import Server


class Site:
    """Another site with one page, whose HTML tests set."""

    def __init__(self) -> None:
        site = self
        self.html = ""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.html.encode() if self.path == "/" else b""
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"localhost:{self.server.server_port}"
        self.origin = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def embed_link(server: Server, **fields: Any) -> tuple[str, str]:
    """Create an embed link; return its path and its key."""
    output = server.django(f"""
        from aggregates.models import Chart, EmbedLink
        from aggregates.web.embed import token_of
        fields = {fields!r}
        fields["chart"] = Chart.objects.get(slug=fields.pop("slug", "commits"))
        made = EmbedLink.objects.create(name="test", **fields)
        print(token_of(made), made.key)
    """)
    token, key = output.split()
    return f"embed/{token}/", key
