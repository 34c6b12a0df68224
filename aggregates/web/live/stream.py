"""Send feeds as server-sent events (WHATWG HTML, section 9.2), with a heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

from aggregates.web.live import process_hub
from aggregates.web.live.feed import Feed, StreamMessage

HEARTBEAT_S = 10.0  # silence after which a comment is sent: keeps proxies from closing, and detects dead clients
CHECK_S = 5.0  # interval at which the viewer's rights are checked
MAX_STREAM_S = 600.0  # maximum duration; then the client reconnects
_SHARED_BYTES = 2**16
RETRY_MS = 1000  # time that a browser waits before it reconnects


def frame(message: StreamMessage, name: str = "", event_id: str = "") -> bytes:
    """Return a message in wire format; `name` is the feed it comes from, if there are several."""
    kind = f"{message.kind}:{name}" if name else message.kind
    head = f"event: {kind}\n" + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"data: " + message.data + b"\n\n"


def respond(request: HttpRequest, feeds: Mapping[str, Feed], allowed: Callable[[], bool]) -> StreamingHttpResponse:
    """Return a stream of `feeds` that continues after the `Last-Event-ID` of the request.

    Closes Django's database connections, so that open streams hold none: the view must have read what it needs.
    `allowed` is called every `CHECK_S`; the stream ends if it returns False. Raise `UnavailableError` if there is no
    memory for what a channel keeps.
    """
    process_hub.hub().check_room(feeds.values())
    last = request.META.get("HTTP_LAST_EVENT_ID", "") or request.GET.get("last_event_id", "")
    connections.close_all()
    response = StreamingHttpResponse(_events(feeds, last, allowed), content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _together(news: Iterable[tuple[str, str, StreamMessage]]) -> Iterator[bytes]:
    """Yield all that is new as one chunk, which costs one write, and a page draws it at once.

    Only what is large stays a chunk of its own, which all viewers share for as long as it is on the way to them.
    """
    small: list[bytes] = []
    for name, id_, message in news:
        if len(message.data) <= _SHARED_BYTES:
            small.append(frame(message, name, id_))
            continue
        head, tail = frame(StreamMessage(message.kind, b""), name, id_).split(b"\n\n")[0], b"\n\n"
        yield b"".join(small) + head
        yield message.data
        small = [tail]
    if small:
        yield b"".join(small)


def _events(feeds: Mapping[str, Feed], last: str, allowed: Callable[[], bool]) -> Iterator[bytes]:
    """Yield all messages for one viewer, which leaves its channels if the client disconnects or the time is up."""
    started = sent = checked = time.monotonic()
    with process_hub.hub().watch(feeds, last) as viewer:
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            while (now := time.monotonic()) < started + MAX_STREAM_S:
                if now - checked >= CHECK_S:
                    checked = now
                    if not allowed():
                        return
                for piece in _together(viewer.wait(CHECK_S)):
                    yield piece
                    sent = time.monotonic()
                if time.monotonic() - sent >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    sent = time.monotonic()
        except EOFError:
            return
