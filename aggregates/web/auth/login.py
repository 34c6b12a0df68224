"""Login forms of the pages and the admin, which limit the number of wrong passwords."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from aggregates.models import LoginCount
from aggregates.web.auth.client_address import counted_address

MAX_WRONG_PASSWORDS: Final = 10  # for one name from one address
MAX_WRONG_BY_ADDRESS: Final = 100  # for all names from one address
WRONG_BEFORE_SLOW: Final = 100  # for one name from all addresses; each further login for it then takes `SLOW_S` longer
SLOW_S: Final = 1.0
WINDOW_S: Final = 60


class RateLimitedLoginForm(AuthenticationForm):
    """A login form that rejects even the right password after too many wrong ones in one clock minute.

    Wrong passwords are counted per user name and address, so that nobody at another address is locked out, and per
    address, so that nobody tries many names. Those for one name from everywhere only slow down, because a limit would
    let anybody lock its owner out. The counts are in Django's database, which all web processes share.
    """

    def clean(self) -> dict[str, Any]:
        """Return the cleaned data. Raise `ValidationError` for a wrong password and after too many.

        A try is counted before the password is checked, and taken back if that was right: else as many more could be
        tried as requests are under way at once.
        """
        pair, address, name = self._keys()
        until = datetime.fromtimestamp((time.time() // WINDOW_S + 2) * WINDOW_S, UTC)
        counts = LoginCount.add((pair, address, name), 1, until)
        if counts[pair] == 1:
            LoginCount.delete_old(datetime.fromtimestamp(time.time(), UTC))
        if counts[pair] > MAX_WRONG_PASSWORDS:
            raise ValidationError(
                "Too many wrong passwords for this name from your address: wait a minute.", code="too_many"
            )
        if counts[address] > MAX_WRONG_BY_ADDRESS:
            raise ValidationError("Too many wrong passwords from your address: wait a minute.", code="too_many")
        if counts[name] > WRONG_BEFORE_SLOW:
            time.sleep(SLOW_S)
        cleaned = super().clean()
        LoginCount.add((pair, address, name), -1, until)
        return cleaned

    def _keys(self) -> tuple[str, str, str]:
        """Return the keys of the counts of the name at the address, of the address, and of the name."""
        address = counted_address(self.request) if self.request is not None else ""
        name = (self.cleaned_data.get("username") or "").lower()
        window = int(time.time() // WINDOW_S)
        pair, at_address, of_name = (
            hashlib.sha256(f"{window} {part}".encode("utf-8", "surrogateescape")).hexdigest()
            for part in (f"pair {address} {name}", f"address {address}", f"name {name}")
        )
        return pair, at_address, of_name


class RateLimitedAdminLoginForm(RateLimitedLoginForm, AdminAuthenticationForm):
    """The login form of the admin, which admits staff only."""
