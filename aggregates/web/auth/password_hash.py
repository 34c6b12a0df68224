"""Hash passwords in threads, so that the second that it takes on purpose holds up no other request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.db import connections

from aggregates.web.compute_thread import ComputeThreads

HASHES_AT_ONCE: Final = 2  # in each web process; a thread each, so that large answers are not delayed
_threads = ComputeThreads(HASHES_AT_ONCE)
_hashed: ContextVar[tuple[str, str] | None] = ContextVar("_hashed", default=None)  # a new password and its hash


@contextmanager
def hashed_before(password: str) -> Iterator[None]:
    """Hash a new password now, and take that hash where the block sets this password within a transaction."""
    token = _hashed.set((password, make_password(password)))
    try:
        yield
    finally:
        _hashed.reset(token)


class ThreadedPasswordHasher(PBKDF2PasswordHasher):
    """Django's PBKDF2 with SHA-256: the same hashes under the same name, so that stored ones stay valid.

    Checks, new passwords and what Django hashes for unknown names all come through `encode`. OpenSSL computes without
    Python's lock (`hashlib.pbkdf2_hmac`), so a thread lets the greenlets of the web process run.
    """

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the hash as it is stored. Wait for a thread while `HASHES_AT_ONCE` others are computed.

        Within a transaction it is computed here, unless `hashed_before` has it: that of a new password has any salt.
        """
        found = _hashed.get()
        if found is not None and found[0] == password and iterations is None:
            return found[1]
        if any(connection.in_atomic_block for connection in connections.all(initialized_only=True)):
            # Another greenlet that needs the lock of this transaction would wait for it in C, and stop this one too.
            return super().encode(password, salt, iterations)
        return _threads.call(super().encode, password, salt, iterations)
