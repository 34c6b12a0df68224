"""Which backends there are: those that come with Zarkov, and those that installed packages offer.

A package offers one by an entry point in the group `zarkov.backends` that names a subclass of `Backend`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from ingest.metrics.backend.base import Backend
from ingest.metrics.exceptions import BackendError

GROUP = "zarkov.backends"
BUILT_IN = {  # the same as in pyproject.toml: a checkout is not installed, so its own entry points are not seen
    "zarkov": "ingest.metrics.backend.zarkov:ZarkovBackend",
    "librato": "ingest.metrics.backend.librato:LibratoBackend",
    "statsd": "ingest.metrics.backend.statsd:StatsdBackend",
    "graphite": "ingest.metrics.backend.graphite:GraphiteBackend",
    "log": "ingest.metrics.backend.log:LogBackend",
}


def names() -> list[str]:
    """The backends that can be run, sorted."""
    return sorted(BUILT_IN.keys() | {point.name for point in entry_points(group=GROUP)})


def find(name: str) -> type[Backend]:
    """The backend's class. Raises `BackendError` that names the known ones, or says why it cannot be loaded."""
    try:
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
        else:
            point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
            if point is None:
                raise BackendError(f"backend {name!r} is not known: there are {', '.join(names())}")
            found = point.load()
    except (ImportError, AttributeError) as error:
        raise BackendError(f"backend {name!r} cannot be loaded: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise BackendError(f"backend {name!r} is {found!r}, which is no subclass of Backend")
    return found
