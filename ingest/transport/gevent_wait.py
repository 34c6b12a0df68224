"""Waiting and threads that work with and without gevent; with it other greenlets keep running, patched or not.

gevent is only used in processes that have imported it already.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import selectors
import sys
import time
from collections.abc import Callable
from typing import Any

import zmq

SLICE_S = 0.05  # ZeroMQ's descriptor is edge-triggered, and another waiter may consume the edge: check again after this


def is_patched() -> bool:
    """Return whether gevent has patched the process's sockets, as gunicorn's gevent worker does."""
    if "gevent" not in sys.modules:
        return False
    from gevent.monkey import is_module_patched

    return bool(is_module_patched("socket"))


def context() -> Any:
    """Return the process's ZeroMQ context, a new one after a fork. Its sockets' `poll` lets other greenlets run."""
    if is_patched():
        from zmq import green

        return green.Context.instance()
    return zmq.Context.instance()


def wait(socket: zmq.Socket[bytes], events: int, timeout_s: float) -> bool:
    """Wait up to `timeout_s` until the plain `socket` is ready for one of `events`; return whether it is.

    No other thread or greenlet may use the socket during that time.
    """
    if _hub() is None:
        return bool(socket.poll(max(0, int(timeout_s * 1000)), events))
    deadline = time.monotonic() + timeout_s
    while not int(socket.getsockopt(zmq.EVENTS)) & events:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        wait_readable(int(socket.getsockopt(zmq.FD)), min(left, SLICE_S))
    return True


def wait_readable(descriptor: int, timeout_s: float) -> bool:
    """Wait until the descriptor is readable or closed; return False if neither happens within `timeout_s`."""
    if _hub() is not None:
        from gevent.socket import timeout, wait_read

        try:
            wait_read(descriptor, timeout=max(0.0, timeout_s), timeout_exc=timeout())
        except timeout:
            return False
        except OSError:
            return True
        return True
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(max(0.0, timeout_s)))
    except (OSError, ValueError):
        return True


def pause(seconds: float) -> None:
    """Sleep; with gevent other greenlets run meanwhile."""
    if _hub() is None:
        time.sleep(seconds)
    else:
        from gevent import sleep

        sleep(seconds)


class BackgroundThread:
    """Run a function in a thread of the operating system, even if gevent has patched threads.

    Any thread or greenlet may wait for it. The thread does not keep the process alive.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._read_end, self._write_end = os.pipe()
        self._done = False
        _start_thread(self._run)

    def _run(self) -> None:
        try:
            self._function()
        finally:
            self._done = True
            os.write(self._write_end, b"x")

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until the function has returned; return whether it has."""
        return self._done or (wait_readable(self._read_end, timeout_s) and self._done)

    def __del__(self) -> None:
        for descriptor in (self._read_end, self._write_end):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _start_thread(function: Callable[[], object]) -> None:
    if is_patched():
        from gevent.monkey import get_original

        get_original("_thread", "start_new_thread")(function, ())
    else:
        _thread.start_new_thread(function, ())


def _hub() -> Any:
    """Return this thread's gevent hub if greenlets run in it and can switch here, else None."""
    if "gevent" not in sys.modules:
        return None
    from gevent import getcurrent
    from gevent._hub_local import get_hub_if_exists  # the public get_hub would create one

    hub = get_hub_if_exists()
    return None if hub is getcurrent() else hub
