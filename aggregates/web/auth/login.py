"""The login forms of the pages and of the admin: wrong passwords are counted, so that nobody tries thousands."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError

MOST_WRONG: Final = 10
WINDOW_S: Final = 60


class CountedLogin(AuthenticationForm):
    """Refuses everything, the right password too, after `MOST_WRONG` wrong ones within a minute of the clock.

    They are counted by user name and address together, so that nobody can shut out somebody who is elsewhere. The
    counts are in Django's cache: by default each web process has its own.
    """

    def clean(self) -> dict[str, Any]:
        """User and password that fit. Raises `ValidationError`."""
        key = self._key()
        if cache.get(key, 0) >= MOST_WRONG:
            raise ValidationError(
                "Too many wrong passwords for this name from your address: wait a minute.", code="too_many"
            )
        try:
            return super().clean()
        except ValidationError:
            cache.add(key, 0, 2 * WINDOW_S)
            try:
                cache.incr(key)
            except ValueError:  # thrown out of a full cache in between
                cache.set(key, 1, 2 * WINDOW_S)
            raise

    def _key(self) -> str:
        address = self.request.META.get("REMOTE_ADDR", "") if self.request is not None else ""
        who = f"{address} {self.cleaned_data.get('username') or ''}".lower()
        window = int(time.time() // WINDOW_S)
        return f"login.{window}.{hashlib.sha256(who.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


class CountedAdminLogin(CountedLogin, AdminAuthenticationForm):
    """The same for the admin, which lets in staff only."""
