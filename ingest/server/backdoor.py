"""Open a Python prompt inside a running ingester, as in 2011. It gives full control, so it is on loopback only."""

from __future__ import annotations

from typing import Any

from gevent.backdoor import BackdoorServer

from ingest.exceptions import BindError

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def check_backdoor(address: str | None) -> None:
    """Raise `BindError` if `address` is a HOST:PORT beyond loopback."""
    if address is not None and address.rpartition(":")[0] not in _LOOPBACK:
        raise BindError(f"backdoor = {address} would let others run code here: use 127.0.0.1:PORT")


def open_backdoor(address: str | None, names: dict[str, Any]) -> Any:
    """Return a running server of Python prompts that see `names`, or None without `address`. Raise `BindError`."""
    if address is None:
        return None
    check_backdoor(address)
    host, _, port = address.rpartition(":")
    server = BackdoorServer((host, int(port)), banner="Zarkov's ingester; `ingester` is the object", locals=names)
    try:
        server.start()
    except OSError as error:
        raise BindError(f"backdoor = {address} cannot be bound: {error.strerror}; set another port") from None
    return server
