"""Tell whether an address is one that only this machine reaches."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches `host`, which is an address, with or without brackets, or a name.

    These are all of 127.0.0.0/8 (RFC 1122, section 3.2.1.3), the same as mapped IPv4, ::1, and `localhost`.
    """
    if host.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
