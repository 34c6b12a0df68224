"""Set options of the kernel's sockets behind a ZeroMQ socket."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import zmq

from ingest.server.socket_reader import bind, bound_address
from ingest.transport.kernel_socket import SEGMENT_BYTES


def test_senders_use_segments_that_are_smaller_than_the_window_of_a_receiver_that_was_held_up() -> None:
    """With larger ones, senders of small messages stayed silent for seconds after their receiver read again."""
    with zmq.Context() as context, bind(context, zmq.PULL, "bson_bind_address", "tcp://127.0.0.1:0") as receiver:
        port = urlsplit(bound_address(receiver)).port or 0
        with socket.create_connection(("127.0.0.1", port)) as sender:
            assert sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= SEGMENT_BYTES
