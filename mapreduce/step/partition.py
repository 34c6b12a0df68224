"""Distribute the keys of a map's output over partitions, sorted by `key.canonical` in each."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from mapreduce.exceptions import KeyRefusedError
from mapreduce.key import TEXT_MARK, canonical, identity

_TEXT_SEED = zlib.crc32(TEXT_MARK)


def group_by_partition(names: Iterable[Hashable], count: int) -> Iterator[tuple[int, list[Hashable]]]:
    """Yield `(partition, sorted names)` for each of `count` partitions that is not empty; names come from `identity`.

    Raise `KeyRefusedError` for a string that UTF-8 cannot encode and for a whole number of more than 64 bits.
    """
    names = list(names)
    try:
        yield from _texts(names, count) if set(map(type, names)) == {str} else _mixed(names, count)
    except UnicodeEncodeError as error:
        raise KeyRefusedError(f"key {error.object!r}: must be text that can be encoded as UTF-8") from None
    except Exception:
        for name in names:
            identity(name)  # raises the error that names the key
        raise


def _texts(names: list[Any], count: int) -> Iterator[tuple[int, list[Hashable]]]:
    """Partition strings alone: code points sort like their UTF-8 bytes, and CRC-32 can continue from a prefix."""
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
