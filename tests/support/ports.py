"""Reserve ports of loopback: for servers that must be told theirs, and for those that come back at the same one."""

from __future__ import annotations

import socket


def reserved_ports(count: int = 1) -> list[int]:
    """Return ports that no other process is given until this one ends; the server that knows one can listen there.

    Each stays bound to a socket that does not listen. On Linux, who asks for any port does not get such a one, while a
    server with SO_REUSEADDR (ZeroMQ, mongod, Python's) may listen there, again and again; see socket(7) and ip(7).
    """
    ports = []
    for _ in range(count):
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        ports.append(holder.getsockname()[1])
        holder.detach()  # stays open until this process ends
    return ports


def reserved_addresses(count: int = 1) -> list[str]:
    """Return the ZeroMQ addresses of reserved ports."""
    return [f"tcp://127.0.0.1:{port}" for port in reserved_ports(count)]
