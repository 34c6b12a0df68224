"""Check whether an acknowledged receiver answers, with an empty request."""

from __future__ import annotations

import time

import zmq

from ..exceptions import DeliveryError
from ..transport import gevent_wait
from ..transport.client_keys import ClientKeys
from .ack_connection import AckConnection

REQUEST_ID = b"probe"


def receiver_fault(address: str, keys: ClientKeys | None, within_s: float) -> str:
    """Return why the receiver at `address` is not usable; empty if it answers within `within_s`."""
    deadline = time.monotonic() + within_s
    dealer: AckConnection | None = None
    try:
        dealer = AckConnection(address, keys)
        dealer.wait_until_ready(within_s)
        dealer.socket.send_multipart([REQUEST_ID, b""], zmq.NOBLOCK)
        if gevent_wait.wait(dealer.socket, zmq.POLLIN, max(0.0, deadline - time.monotonic())):
            return ""
        return (
            f"the ingester at {address} accepts connections but does not answer within {within_s:g} s: see its log, "
            "or restart it"
        )
    except DeliveryError as error:
        return str(error)
    except zmq.Again:
        return f"the connection to the ingester at {address} broke: see its log"
    finally:
        if dealer is not None:
            dealer.close()
