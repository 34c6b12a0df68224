"""Tell which names of time zones mean the same to every program that reads them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

# Files of the database that are no zones of their own: that of the machine, a default, a place holder, and the same
# zones once more, with and without leap seconds (see tzfile(5) and zic(8)). Python reads them, browsers do not.
_NO_NAMES: Final = frozenset({"localtime", "posixrules", "Factory"})
_COPIES: Final = ("posix/", "right/")


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Return True if `name` is a zone of the IANA time zone database, which Python and browsers read alike."""
    return name not in _NO_NAMES and not name.startswith(_COPIES) and _is_readable(name)


def zone_advice(name: str) -> str:
    """Return, for an error message, what to use instead of a name that is no zone."""
    for copies in _COPIES:
        if name.startswith(copies) and is_zone(name.removeprefix(copies)):
            return name.removeprefix(copies)
    return "a name of the IANA time zone database, such as UTC or Europe/Berlin"


def _is_readable(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; folders of the database an OSError
        return False
    return True
