"""Let a ZeroMQ socket use the kind of address that it is given: IPv6 is off unless asked for."""

from __future__ import annotations

from typing import Any

import zmq


def allow_ipv6(socket: zmq.Socket[Any], address: str) -> None:
    """Set ZMQ_IPV6 (zmq_setsockopt(3)) before `socket` binds or connects to an address such as tcp://[::1]:6543.

    Names keep their IPv4 address: with the option, localhost could mean ::1, where nobody may listen.
    """
    if "[" in address:
        socket.setsockopt(zmq.IPV6, 1)
