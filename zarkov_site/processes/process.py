"""Initialize a Zarkov process: end with the parent process, set up Django."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

END_WITH_PARENT = "ZARKOV_END_WITH_PARENT"  # set by `up` for the processes that it starts
_PR_SET_PDEATHSIG = 1  # prctl(2): signal sent to this process when its parent ends
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


def end_with_parent() -> None:
    """Request SIGTERM for this process when its parent ends, if the parent is `up`. Do nothing if this is not Linux."""
    if os.environ.pop(END_WITH_PARENT, None):
        request_end_with_parent()


def request_end_with_parent() -> None:
    """Request SIGTERM for this process when its parent ends for any reason. Do nothing if this is not Linux."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def set_up_django() -> None:
    """Make Django's models usable in this process. Can be called more than once."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
    end_with_parent()
    import django

    django.setup()
