"""Login forms of the pages and the admin, which limit the number of wrong passwords."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError

from aggregates.web.auth.client_address import counted_address

MAX_WRONG_PASSWORDS: Final = 10
WINDOW_S: Final = 60


class RateLimitedLoginForm(AuthenticationForm):
    """A login form that rejects even the right password after `MAX_WRONG_PASSWORDS` wrong ones in one clock minute.

    Wrong passwords are counted per user name and address, so that a user at another address is not locked out. The
    counts are in Django's cache: by default each web process has its own.
    """

    def clean(self) -> dict[str, Any]:
        """Return the cleaned data. Raise `ValidationError` for a wrong password and after too many."""
        key = self._key()
        if cache.get(key, 0) >= MAX_WRONG_PASSWORDS:
            raise ValidationError(
                "Too many wrong passwords for this name from your address: wait a minute.", code="too_many"
            )
        try:
            return super().clean()
        except ValidationError:
            cache.add(key, 0, 2 * WINDOW_S)
            try:
                cache.incr(key)
            except ValueError:  # evicted from a full cache in the meantime
                cache.set(key, 1, 2 * WINDOW_S)
            raise

    def _key(self) -> str:
        address = counted_address(self.request) if self.request is not None else ""
        client = f"{address} {self.cleaned_data.get('username') or ''}".lower()
        window = int(time.time() // WINDOW_S)
        return f"login.{window}.{hashlib.sha256(client.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


class RateLimitedAdminLoginForm(RateLimitedLoginForm, AdminAuthenticationForm):
    """The login form of the admin, which admits staff only."""
