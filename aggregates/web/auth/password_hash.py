"""Hash passwords in threads, so that the second that it takes on purpose holds up no other request."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connections

from aggregates.web.compute_thread import ComputeThreads

HASHES_AT_ONCE: Final = 2  # in each web process; a thread each, so that large answers are not delayed
_threads = ComputeThreads(HASHES_AT_ONCE)


class ThreadedPasswordHasher(PBKDF2PasswordHasher):
    """Django's PBKDF2 with SHA-256: the same hashes under the same name, so that stored ones stay valid.

    Checks, new passwords and what Django hashes for unknown names all come through `encode`. OpenSSL computes without
    Python's lock (`hashlib.pbkdf2_hmac`), so a thread lets the greenlets of the web process run.
    """

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the hash as it is stored. Wait for a thread while `HASHES_AT_ONCE` others are computed."""
        if any(connection.in_atomic_block for connection in connections.all(initialized_only=True)):
            # Another greenlet that needs the lock of this transaction would wait for it in C, and stop this one too.
            return super().encode(password, salt, iterations)
        return _threads.call(super().encode, password, salt, iterations)
