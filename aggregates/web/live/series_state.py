"""The answer to a series query as JSON in pieces, which take a fifth of the memory of its points."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from aggregates.web.json_encoding import to_json, to_json_in_pieces
from aggregates.web.series.points import Series

_PIECE_POINTS = 1_000  # so that no call of C, which lets no other thread run, is long
_PIECE_CHARS = 2**16  # of texts that are the x of points


@dataclass(frozen=True, slots=True)
class EncodedSeries:
    """One line of a chart."""

    label: str
    key: str
    field: str
    pieces: tuple[bytes, ...]  # points in their order, as JSON without the brackets around each piece
    count: int  # of the points
    repeats: bool  # True if two points have the same x

    @classmethod
    def of(cls, series: Series) -> EncodedSeries:
        """Return a series, which has no points afterwards: they are freed in pieces, too."""
        data = series.data
        count, repeats = len(data), len({point[0] for point in data}) < len(data)
        pieces: list[bytes] = []
        for start in reversed(range(0, count, _PIECE_POINTS)):
            pieces += _pieces(data[start:])
            del data[start:]
        return cls(series.label, series.key, series.field, tuple(reversed(pieces)), count, repeats)

    @property
    def name(self) -> tuple[str, str, str]:
        """Return what the series is, without its points."""
        return self.key, self.field, self.label

    @property
    def size_bytes(self) -> int:
        """Return about how many bytes it takes."""
        return sum(map(len, self.pieces)) + sum(map(sys.getsizeof, self.name))

    def points(self, first_piece: int = 0) -> Iterator[list[Any]]:
        """Yield the points from a piece on."""
        for piece in self.pieces[first_piece:]:
            yield from json.loads(b"[" + piece + b"]")

    def json_pieces(self) -> Iterator[bytes]:
        """Yield the JSON of the series."""
        head = to_json_in_pieces({"label": self.label, "key": self.key, "field": self.field})
        yield head[:-1] + b', "data": ['
        yield from _joined((piece,) for piece in self.pieces)
        yield b"]}"


@dataclass(frozen=True, slots=True)
class SeriesState:
    """All series of an answer, and its other fields."""

    series: tuple[EncodedSeries, ...]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, series: Sequence[Series], facts: Mapping[str, Any]) -> SeriesState:
        """Return the state of `series`, which have no points afterwards."""
        return cls(tuple(map(EncodedSeries.of, series)), facts)

    @property
    def size_bytes(self) -> int:
        """Return about how many bytes it takes."""
        return sum(series.size_bytes for series in self.series)

    def json_parts(self) -> dict[str, Iterator[bytes]]:
        """Return the JSON of each field in pieces."""
        series = (each.json_pieces() for each in self.series)
        return {"series": _bracketed(series), **{name: iter([to_json(value)]) for name, value in self.facts.items()}}

    def json(self) -> bytes:
        """Return the answer in the form of the API."""
        fields = ((to_json(name) + b": ", *part) for name, part in self.json_parts().items())
        return b"".join((b"{", *_joined(fields), b"}"))


def difference(old: EncodedSeries, new: EncodedSeries, most: int) -> tuple[list[list[Any]], list[Any]] | None:
    """Return the points of `new` that `old` has not, and the x of those that only `old` has; None if more than `most`.

    Neither may have two points at one x.
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old.pieces, new.pieces, strict=False)))
    have: dict[Any, Any] = dict(old.points(same))
    points = []
    for x, y in new.points(same):
        if x not in have or have[x] != y:
            points.append([x, y])
            if len(points) > most:
                return None
        have.pop(x, None)
    return (points, list(have)) if len(points) + len(have) <= most else None


def _pieces(points: list[list[Any]]) -> Iterator[bytes]:
    """Yield the JSON of the points, the last ones first, so that no piece of several has many characters."""
    if len(points) > 1 and sum(len(x) for x, _ in points if type(x) is str) > _PIECE_CHARS:
        middle = len(points) // 2
        yield from _pieces(points[middle:])
        yield from _pieces(points[:middle])
    else:
        yield to_json_in_pieces(points)[1:-1]


def _bracketed(items: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    yield b"["
    yield from _joined(items)
    yield b"]"


def _joined(items: Any) -> Iterator[bytes]:
    """Yield the pieces of all items, with a comma between two items."""
    for number, item in enumerate(items):
        if number:
            yield b", "
        yield from item
