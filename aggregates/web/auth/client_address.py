"""The address by which requests without a login are counted."""

from __future__ import annotations

import ipaddress

from django.http import HttpRequest

SUBNET_BITS = 64  # of IPv6, which one customer has for himself (RFC 6177): he can have a new address for each request


def counted_address(request: HttpRequest) -> str:
    """Return the client's IPv4 address, or its IPv6 network; behind trusted proxies it is that of the real client."""
    text = str(request.META.get("REMOTE_ADDR", ""))
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped or address.version == 4:
        return str(mapped or address)
    return str(ipaddress.ip_network((int(address), SUBNET_BITS), strict=False))
