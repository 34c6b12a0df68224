"""Requests wait in the order in which they came, and it is known whose wait and how much they take."""

from __future__ import annotations

from ingest.server.request_queue import RequestQueue


def test_requests_leave_in_their_order_and_are_counted_by_sender() -> None:
    queue = RequestQueue(2)
    first, second, other = [b"relay", b"one", b"", b"123"], [b"relay", b"one", b"", b"4"], [b"relay", b"two", b"", b"5"]
    for request in (first, other, second):
        queue.append(request)
    assert (len(queue), queue.size_bytes) == (3, 11 + 9 + 9)
    assert queue.pop() is first
    assert queue.has_request_of(queue.sender(second))
    assert [queue.pop(), queue.pop()] == [other, second]
    assert not queue.has_request_of(queue.sender(second))
    assert (len(queue), queue.size_bytes) == (0, 0)
