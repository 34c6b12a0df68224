"""Let no body of a request hold up the web process, whoever sends it: hooks of gunicorn, see `zarkov_site.server`.

One greenlet runs at a time, and gunicorn reads what has arrived without giving way to the others.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from aggregates.web.body_limit import MAX_DRAINED_BYTES
from ingest.turn import PAUSE_S

TURN_S = 0.001  # of decoding chunks, before others have theirs
FREE_CHUNKS = 2**16  # may be of one byte; a client without a buffer sends a small body so
MIN_MEAN_BYTES = 16  # of the chunks of a larger body: smaller ones cost more than what is in them
_UNREAD_BYTES = 2**16  # gunicorn skips so many in no time, and keeps the connection
_IDLE_S = 5.0
_LINGER_S = 30.0


def limit_chunks(request: Any) -> None:
    """Make gunicorn's `request` decode a chunked body in turns, and refuse one of too many chunks."""
    reader = request.body.reader
    if pieces := getattr(reader, "parser", None):  # a generator of decoded bytes; only readers of chunks have one
        reader.parser = taking_turns(pieces, request)


def taking_turns(pieces: Iterable[bytes], request: Any) -> Iterator[bytes]:
    """Yield the pieces of a body, and let other greenlets run every `TURN_S`.

    Raise `BadRequestError` once there are more than a program that writes without a buffer would send; then the
    connection is closed, since nothing says where the next request starts.
    """
    import gevent

    from aggregates.web.exceptions import BadRequestError  # imports Django, which gunicorn's parent must not

    size_bytes = 0
    turn_ends = time.monotonic() + TURN_S
    for count, piece in enumerate(pieces, 1):
        size_bytes += len(piece)
        if count > FREE_CHUNKS + size_bytes // MIN_MEAN_BYTES:
            request.force_close()
            raise BadRequestError(
                f"the body has {count} chunks in its first {size_bytes} bytes: send chunks of {MIN_MEAN_BYTES} bytes "
                "or more, or a Content-Length"
            )
        if time.monotonic() >= turn_ends:
            gevent.sleep(PAUSE_S)
            turn_ends = time.monotonic() + TURN_S
        yield piece


def close_unread(request: Any, response: Any, connection: socket.socket) -> None:
    """Close the connection of an answered request if much of its body was not read.

    gunicorn would read all of it to reach the next request, however long it is. What the client has sent is thrown away
    as it arrives, up to `MAX_DRAINED_BYTES`, because a connection that is closed with bytes unread loses the answer
    (RFC 9112, section 9.6).
    """
    if not response.headers_sent or not _is_unread(request.body):
        return
    request.force_close()
    import gevent

    ends = time.monotonic() + _LINGER_S
    left_bytes = MAX_DRAINED_BYTES
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_IDLE_S)
        while left_bytes > 0 and time.monotonic() < ends and (data := connection.recv(2**16)):
            left_bytes -= len(data)
            gevent.sleep(PAUSE_S)


def _is_unread(body: Any) -> bool:
    reader = body.reader
    return bool(body.failed or getattr(reader, "parser", None) or getattr(reader, "length", 0) > _UNREAD_BYTES)
