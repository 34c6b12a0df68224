"""Read the text of an edit form back into a document: what was not changed keeps the value that it had.

Extended JSON cannot tell the number of `{"$numberLong": "7"}` from a document with that name (it has no escape, see
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/), so the text alone does not say what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from ingest.wire.extended_json import holds_value
from ingest.wire.json_value import loads, loads_as_written


def read_mended(text: str, shown: str, original: Mapping[str, Any]) -> Any:
    """Return the document in `text`, which a person made of `shown`, the text of `original`.

    Parts that are alike in both texts are those of `original`, a document with the same names for values stays one, and
    all else is read as JSON receivers do. Raise what `loads` raises.
    """
    return _kept(loads_as_written(text), loads_as_written(shown), original)


def _kept(written: Any, shown: Any, original: Any) -> Any:
    if _same(written, shown):
        return original
    if isinstance(written, dict) and isinstance(original, Mapping) and shown.keys() == original.keys():
        if holds_value(written) and not _names_for_values(written) <= original.keys():
            return _read(written)
        return {
            name: _kept(item, shown[name], original[name]) if name in original else _read(item)
            for name, item in written.items()
        }
    if isinstance(written, list) and isinstance(original, list):
        places = _places(written, shown)
        return [
            _read(item) if place is None else _kept(item, shown[place], original[place])
            for item, place in zip(written, places, strict=True)
        ]
    return _read(written)


def _places(written: list[Any], shown: list[Any]) -> list[int | None]:
    """Return for each item the index of the shown one that it is, or was made of; None for one that was added.

    Items before the first change and after the last one are known by their order; between them one that is alike in
    both is the same, wherever it stands, and those that are left were changed, in order.
    """
    new, old = ([json.dumps(item) for item in items] for items in (written, shown))
    start = _alike_count(zip(new, old, strict=False))
    rest = min(len(new), len(old)) - start
    end = min(rest, _alike_count(zip(reversed(new), reversed(old), strict=False)))
    left: dict[str, list[int]] = {}
    for index in reversed(range(start, len(old) - end)):
        left.setdefault(old[index], []).append(index)
    middle = [left[text].pop() if left.get(text) else None for text in new[start : len(new) - end]]
    changed = iter(sorted(index for indexes in left.values() for index in indexes))
    middle = [next(changed, None) if index is None else index for index in middle]
    return [*range(start), *middle, *range(len(old) - end, len(old))]


def _alike_count(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _names_for_values(document: Mapping[str, Any]) -> set[str]:
    return {name for name in document if holds_value({name: None})}


def _read(written: Any) -> Any:
    return loads(json.dumps(written))


def _same(one: Any, other: Any) -> bool:
    """Return whether two values of JSON were written alike: 1, 1.0 and true are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
