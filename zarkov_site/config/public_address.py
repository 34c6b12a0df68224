"""The address under which browsers and programs reach the web server: through a proxy, or directly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from zarkov_site.config.value import is_loopback

WEB_PORT = 8081  # unless the configuration says another


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


def cookie_name(word: str, public: PublicAddress | None, web_port: int) -> str:
    """Return the name of a cookie: our own, and another one for each Zarkov on one host.

    Browsers send a cookie to every port of its host, and that of `/` below every path (RFC 6265, section 8.5). So the
    name has the port and the path of `public_url`, else `web_port`, unless that is the usual one or any free one.
    """
    if public is not None:
        distinct = f"{urlsplit(public.url).port or ''}{public.prefix}"
    else:
        distinct = "" if web_port in {0, WEB_PORT} else str(web_port)
    return f"zarkov_{word}" + (re.sub(r"[^A-Za-z0-9]+", "_", f"_{distinct}") if distinct else "")
