"""Read the text of an edit form back into a document: what was not changed keeps the value that it had.

Extended JSON cannot tell the number of `{"$numberLong": "7"}` from a document with that name (it has no escape, see
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/), so the text alone does not say what it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
        known = min(len(written), len(original))
        return [
            _kept(written[n], shown[n], original[n]) if n < known else _read(written[n]) for n in range(len(written))
        ]
    return _read(written)


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
