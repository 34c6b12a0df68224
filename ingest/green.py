"""Chooses the ZeroMQ sockets that suit the process: plain ones, or gevent's where gevent has patched it."""

from __future__ import annotations

from typing import Any

import zmq


def is_patched() -> bool:
    """Whether gevent has patched the process's sockets, as gunicorn's gevent worker does."""
    try:
        from gevent.monkey import is_module_patched
    except ImportError:
        return False
    return bool(is_module_patched("socket"))


def context() -> Any:
    """The process's ZeroMQ context; a new one after a fork. Its sockets' `poll` lets other greenlets run."""
    if is_patched():
        from zmq import green

        return green.Context.instance()
    return zmq.Context.instance()
