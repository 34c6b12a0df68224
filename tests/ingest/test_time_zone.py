"""Names of time zones: those that Python and browsers read alike."""

from __future__ import annotations

import pytest

from ingest.time_zone import is_zone, zone_advice


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "EST5EDT", "Etc/GMT+5", "GMT0"])
def test_names_of_the_database_are_zones(name: str) -> None:
    assert is_zone(name)


@pytest.mark.parametrize(
    "name",
    ["", "Europe", "Mars", "../etc/passwd", "/etc/localtime", "localtime", "posixrules", "Factory",
     "posix/Europe/Berlin", "right/Europe/Berlin", "right/UTC", "posix/Mars", "+00:53:28", "+02:00", "UTC+2",
     "Europe/Berlin\0"],
)  # fmt: skip
def test_what_browsers_do_not_know_is_no_zone(name: str) -> None:
    assert not is_zone(name)


def test_what_to_use_instead_is_said() -> None:
    assert zone_advice("posix/Europe/Berlin") == zone_advice("right/Europe/Berlin") == "Europe/Berlin"
    for name in ("localtime", "posix/Mars", "+00:53:28"):
        assert "such as UTC or Europe/Berlin" in zone_advice(name)
