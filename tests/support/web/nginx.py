"""Run a real nginx with TLS before a web server, with the configuration of docs/production.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.support.waiting import eventually
from tests.support.web.visitor import Visitor
from zarkov_site.config.config import REPOSITORY

# What Debian's /etc/nginx/nginx.conf has around the server block; everything is written below `{folder}`.
_AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
{server}
}}
"""
SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # Debian has it where only root looks


def other_address() -> str:
    """Return an IPv4 address of this machine beyond loopback; where there is none, another one of loopback."""
    for interface in psutil.net_if_addrs().values():
        for address in interface:
            if address.family.name == "AF_INET" and not address.address.startswith("127."):
                return address.address
    return "127.9.8.7"


def documented_server() -> str:
    """Return the server block of docs/production.md."""
    text = (REPOSITORY / "docs" / "production.md").read_text()
    found = re.search(r"^```nginx\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def changed(text: str, replacements: Mapping[str, str]) -> str:
    """Return the text with each key, which must be there, replaced by its value."""
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


class Nginx:
    """An nginx at `https://ADDRESS:PORT`, with a certificate of its own. Everything is written below `folder`."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.address, self.port = address, port
        self.certificate = folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=zarkov test", "-addext", f"subjectAltName=IP:{address}",
             "-keyout", str(folder / "key.pem"), "-out", str(self.certificate)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        return f"https://{self.address}:{self.port}"

    def start(self, behind: str, replacements: Mapping[str, str]) -> None:
        """Pass everything on to `behind`, HOST:PORT, with the documented configuration and these changes of it."""
        local = {
            "listen 443 ssl;": f"listen {self.address}:{self.port} ssl;",
            "server_name stats.example.org;": f"server_name {self.address};",
            "/etc/ssl/stats.example.org.pem": str(self.certificate),
            "/etc/ssl/stats.example.org.key": str(self.folder / "key.pem"),
        }
        server = changed(documented_server(), replacements | local)
        server = changed(server, {"http://127.0.0.1:8081": f"http://{behind}"})
        file = self.folder / "nginx.conf"
        file.write_text(_AROUND.format(folder=self.folder, server=server))
        user = ["-g", "user root;"] if os.geteuid() == 0 else []  # the folder of a test is its owner's alone
        with (self.folder / "output").open("wb") as output:
            command = [
                shutil.which("nginx", path=SYSTEM_PATH) or "nginx",
                "-p",
                str(self.folder),
                "-c",
                str(file),
                *user,
            ]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(self._answers, what=f"nginx; its output: {self.folder / 'output'}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output").read_text()
        try:
            return self.visitor().get("/healthz")[0] in {200, 404}
        except OSError:
            return False

    def visitor(self, source: str = "") -> Visitor:
        """Return a new client that knows the certificate; it connects from the address `source`, if one is given."""
        return Visitor(self.origin, self.certificate, source)

    def stop(self) -> None:
        """End nginx and its worker. May be called twice."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None
