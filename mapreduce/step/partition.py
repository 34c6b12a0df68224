"""Deals the keys of a map's output out to partitions, each in the order of `key.canonical`."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from mapreduce.exceptions import KeyRefusedError
from mapreduce.key import TEXT_MARK, canonical, identity

_TEXT_SEED = zlib.crc32(TEXT_MARK)


def arranged(names: Iterable[Hashable], count: int) -> Iterator[tuple[int, list[Hashable]]]:
    """`(partition, names in order)` for each of `count` partitions that has any; a name is what `identity` gives.

    Raises `KeyRefusedError` for a string that is no text, and for a whole number of more than 64 bits.
    """
    names = list(names)
    try:
        yield from _texts(names, count) if set(map(type, names)) == {str} else _mixed(names, count)
    except UnicodeEncodeError as error:
        raise KeyRefusedError(f"key {error.object!r}: allowed is text that can be encoded as UTF-8") from None
    except Exception:
        for name in names:
            identity(name)  # names the whole number of more than 64 bits
        raise


def _texts(names: list[Any], count: int) -> Iterator[tuple[int, list[Hashable]]]:
    """Strings alone: the order of code points is that of their UTF-8 bytes, and CRC-32 can go on from a prefix."""
    parts: list[list[Any]] = [[] for _ in range(count)]
    crc, seed = zlib.crc32, _TEXT_SEED
    for name in names:
        parts[crc(name.encode(), seed) % count].append(name)
    for index, part in enumerate(parts):
        if part:
            part.sort()
            yield index, part


def _mixed(names: list[Hashable], count: int) -> Iterator[tuple[int, list[Hashable]]]:
    parts: dict[int, list[Hashable]] = {}
    for code, name in sorted((name if type(name) is bytes else canonical(name), name) for name in names):
        parts.setdefault(zlib.crc32(code) % count, []).append(name)
    yield from parts.items()
