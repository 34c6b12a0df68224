"""Server-sent events (WHATWG HTML, section 9.2): framing, heartbeat, and the response of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

from aggregates.web.live import process_hub
from aggregates.web.live.feed import Feed, StreamMessage

HEARTBEAT_S = 10.0  # a comment so often keeps proxies from closing the stream, and shows who has gone
CHECK_S = 5.0  # how often it is asked whether the viewer may still see it
LONGEST_S = 600.0  # then the client connects again, and its rights are looked at again
RETRY_MS = 1000  # what a browser waits before it does


def frame(message: StreamMessage, name: str = "", event_id: str = "") -> bytes:
    """One event as it goes over the wire; `name` says which of several feeds it is of."""
    kind = f"{message.kind}:{name}" if name else message.kind
    head = f"event: {kind}\n" + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"data: " + message.data + b"\n\n"


def respond(request: HttpRequest, feeds: Mapping[str, Feed], allowed: Callable[[], bool]) -> StreamingHttpResponse:
    """A stream of these feeds, going on after the `Last-Event-ID` of the request.

    Whatever the view wanted from Django's database it has by now: the connection is closed, so that open streams hold
    none. `allowed` is asked every `CHECK_S`; when it says no the stream ends.
    """
    last = request.META.get("HTTP_LAST_EVENT_ID", "") or request.GET.get("last_event_id", "")
    connections.close_all()
    response = StreamingHttpResponse(_events(feeds, last, allowed), content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _events(feeds: Mapping[str, Feed], last: str, allowed: Callable[[], bool]) -> Iterator[bytes]:
    """All messages for one viewer as bytes; it leaves its channels when the client has gone or the time is over."""
    started = spoke = checked = time.monotonic()
    with process_hub.hub().watch(feeds, last) as viewer:
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            while (now := time.monotonic()) < started + LONGEST_S:
                if now - checked >= CHECK_S:
                    checked = now
                    if not allowed():
                        return
                # One piece for all that is new: a page draws it at once, and it costs one write.
                if news := b"".join(frame(message, name, id_) for name, id_, message in viewer.wait(CHECK_S)):
                    yield news
                    spoke = time.monotonic()
                if time.monotonic() - spoke >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    spoke = time.monotonic()
        except EOFError:
            return
