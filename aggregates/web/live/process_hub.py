"""Hold the hub and the listener of this web process, created when the first stream opens."""

from __future__ import annotations

import os
import threading

from django.conf import settings

from aggregates.services.notice_listener import NoticeListener
from aggregates.web.live.hub import Hub

_lock = threading.Lock()
_running: tuple[int, Hub, NoticeListener] | None = None  # with the process id: a fork inherits no threads or sockets


def hub() -> Hub:
    """Return the hub of this process; the first call starts it and its listener."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            made = Hub()
            config = settings.ZARKOV
            listener = NoticeListener(
                lambda: config.connect_address("publish_bind_address"), made.handle_notice, config.client_keys()
            )
            listener.start()
            _running = (os.getpid(), made, listener)
        return _running[1]


def stop() -> None:
    """End all streams and the listener; the next `hub()` starts new ones."""
    global _running
    with _lock:
        running, _running = _running, None
    if running is not None and running[0] == os.getpid():
        running[1].stop()
        running[2].stop()
