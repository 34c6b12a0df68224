"""Time zones of all makes: of dateutil, as pytz makes them, of a file, and of classes of their own."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, tzinfo
from importlib import resources
from zoneinfo import ZoneInfo


class OfPytz(tzinfo):
    """A zone that tells its name as those of pytz do, which pick one of its offsets."""

    def __init__(self, zone: str) -> None:
        self.zone = zone

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else ZoneInfo(self.zone).utcoffset(dt)

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else ZoneInfo(self.zone).dst(dt)


class Summer(tzinfo):
    """A zone without a name, unhashable, with an offset of one hour, in summer of two; without a date it says zero."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Summer)

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(0) if dt is None or dt.tzinfo is None else timedelta(hours=1) + self.dst(dt)

    def dst(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=dt is not None and 4 <= dt.month <= 9)


class WithoutDst(tzinfo):
    """The same offsets, from a class that defines nothing else."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return Summer().utcoffset(dt)


class Fixed(tzinfo):
    """A fixed offset that answers nothing but that, and nothing without a date."""

    def __init__(self, offset: timedelta) -> None:
        self.offset = offset

    def utcoffset(self, dt: datetime | None) -> timedelta:
        assert dt is not None
        return self.offset


class Broken(tzinfo):
    """A zone on which everything fails, also its `repr`."""

    def utcoffset(self, dt: datetime | None) -> timedelta:
        raise RuntimeError("broken")

    def __repr__(self) -> str:
        raise RuntimeError("broken")


def of_file(name: str) -> ZoneInfo:
    """Return a zone without its name."""
    return ZoneInfo.from_file(io.BytesIO(resources.files("tzdata.zoneinfo").joinpath(name).read_bytes()))
