"""What every process of Zarkov does first: tie its life to the one that started it, set up Django."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

END_WITH_PARENT = "ZARKOV_END_WITH_PARENT"  # set by `up` for the processes that it starts
_PR_SET_PDEATHSIG = 1  # prctl(2): signal sent to this process when its parent ends


def end_with_parent() -> None:
    """On Linux, ask for SIGTERM when `up` ends, however it ends, if it was `up` that started this process."""
    if os.environ.pop(END_WITH_PARENT, None) and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def set_up_django() -> None:
    """Make Django's models usable in this process; safe to call again."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
    end_with_parent()
    import django

    django.setup()
