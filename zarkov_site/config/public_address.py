"""The address under which browsers and programs reach the web server: through a proxy, or directly."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ingest.loopback import is_loopback

WEB_PORT = 8081  # unless the configuration says another
_PLAIN_PATH = re.compile(r"(/[A-Za-z][A-Za-z0-9]*)*\Z")  # whose parts are told apart by `_`, and from ports


@dataclass(frozen=True)
class PublicAddress:
    """The parts of `public_url`, in its normal form."""

    url: str  # without a final slash

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def authority(self) -> str:
        """Return host and port as a browser sends them in `Host`; without the port if it is that of the scheme."""
        return urlsplit(self.url).netloc

    @property
    def host(self) -> str:
        """Return the host as Django's ALLOWED_HOSTS has it: without port, IPv6 in brackets."""
        return re.sub(r":\d+\Z", "", self.authority)

    @property
    def origin(self) -> str:
        """Return scheme and authority, as a browser sends them in `Origin` (RFC 6454, section 6.1)."""
        return f"{self.scheme}://{self.authority}"

    @property
    def prefix(self) -> str:
        """Return the path below which everything is served, such as `/zarkov`; empty at the top of the host."""
        return urlsplit(self.url).path

    def fault(self) -> str | None:
        """Return a sentence if passwords and tokens cross a network unencrypted, else None."""
        if self.scheme == "https" or is_loopback(self.host):
            return None
        return (
            f"public_url = {self.url} is not encrypted: passwords, cookies and tokens can be read on the way; "
            "use https:// with a proxy that has a certificate"
        )


def cookie_name(word: str, public: PublicAddress | None, web_port: int, home: Path) -> str:
    """Return the name of a cookie: our own, and another one for each Zarkov on one host, the same after every start.

    Browsers send a cookie to every port of its host, and that of `/` below every path (RFC 6265, section 8.5). So the
    name has the port and the path of `public_url`, and `web_port` unless it is the usual one, since a login on loopback
    beside the proxy is possible too. What does not tell installations apart like this is told by a hash: a free port
    (0) by that of the folder `home`, a path by that of `public_url` if other paths become the same name.
    """
    distinct = []
    if public is not None:
        distinct += [str(urlsplit(public.url).port or ""), *public.prefix.split("/")]
        distinct += ["at"] if web_port not in {0, WEB_PORT} else []
        if not _PLAIN_PATH.match(public.prefix):
            distinct.append(_short_hash(public.url))
    distinct.append(_short_hash(str(home)) if web_port == 0 else "" if web_port == WEB_PORT else str(web_port))
    return "_".join([f"zarkov_{word}", *(re.sub(r"[^A-Za-z0-9]+", "_", part) for part in distinct if part)])


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
