"""Asks an acknowledged door whether it answers, with a request that holds nothing."""

from __future__ import annotations

import time

import zmq

from .ack_connection import AckConnection
from ..exceptions import DeliveryError
from ..transport import gevent_wait
from ..transport.client_keys import ClientKeys

REQUEST_ID = b"probe"


def receiver_fault(address: str, keys: ClientKeys | None, within_s: float) -> str:
    """Why nobody could be sure to be heard at `address`; empty when the door answers within the time."""
    deadline = time.monotonic() + within_s
    dealer: AckConnection | None = None
    try:
        dealer = AckConnection(address, keys)
        dealer.wait_until_ready(within_s)
        dealer.socket.send_multipart([REQUEST_ID, b""], zmq.NOBLOCK)
        if gevent_wait.wait(dealer.socket, zmq.POLLIN, max(0.0, deadline - time.monotonic())):
            return ""
        return f"the ingester at {address} is there and does not answer within {within_s:g} s: see its log, restart it"
    except DeliveryError as error:
        return str(error)
    except zmq.Again:
        return f"the connection to the ingester at {address} broke: see its log"
    finally:
        if dealer is not None:
            dealer.close()
