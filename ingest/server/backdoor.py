"""Open a Python prompt inside a running ingester, as in 2011. It gives full control, so it is on loopback only."""

from __future__ import annotations

from typing import Any

from gevent.backdoor import BackdoorServer

from ingest.exceptions import BindError
from ingest.loopback import is_loopback


def open_backdoor(address: str | None, names: dict[str, Any]) -> BackdoorServer | None:
    """Return a running server of Python prompts that see `names`, or None without `address`.

    Raise `BindError` if the address is taken or beyond loopback.
    """
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not is_loopback(host):
        raise BindError(f"backdoor = {address} would let others run code here: use 127.0.0.1:PORT")
    server = BackdoorServer((host, int(port)), banner="Zarkov's ingester; `ingester` is the object", locals=names)
    try:
        server.start()
    except OSError as error:
        raise BindError(f"backdoor = {address} cannot be bound: {error.strerror}; set another port") from None
    return server
