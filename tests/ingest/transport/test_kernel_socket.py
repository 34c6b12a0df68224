"""Set options of the kernel's sockets behind a ZeroMQ socket, and ask the kernel about them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import zmq

from ingest.server.socket_reader import bind, bound_address
from ingest.transport import kernel_socket
from ingest.transport.kernel_socket import SEGMENT_BYTES
from tests.support.waiting import eventually


def test_senders_use_segments_that_are_smaller_than_the_window_of_a_receiver_that_was_held_up() -> None:
    """With larger ones, senders of small messages stayed silent for seconds after their receiver read again."""
    with zmq.Context() as context, bind(context, zmq.PULL, "bson_bind_address", "tcp://127.0.0.1:0") as receiver:
        port = urlsplit(bound_address(receiver)).port or 0
        with socket.create_connection(("127.0.0.1", port)) as sender:
            assert sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= SEGMENT_BYTES


def test_packets_that_are_dropped_are_counted_by_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pairs = [(socket.create_connection(server.getsockname()), server.accept()[0]) for _ in range(2)]
        (sending, held), (_, idle) = pairs
        for receiving in (held, idle):
            kernel_socket.drop_packets(receiving)
        sending.sendall(b"x")
        eventually(lambda: kernel_socket.dropped_packets(held))
        assert kernel_socket.dropped_packets(idle) == 0
        kernel_socket.accept_packets(held)
        assert held.recv(1) == b"x", "it is repeated"
        for pair in pairs:
            for each in pair:
                each.close()
