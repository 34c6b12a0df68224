"""Return memory that was freed to the system, where the C library would keep it."""

from __future__ import annotations

import contextlib
import ctypes

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of mallopt(3)
_MMAP_BYTES = 2**19


def return_large_blocks() -> None:
    """Let the C library return each large block to the system when it is freed, not only sometimes (mallopt(3))."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)


def return_free_memory() -> None:
    """Return what was freed to the system, where the C library can do that (malloc_trim(3))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
