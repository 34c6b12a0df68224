"""Find metrics backends by name: the entry points of group `zarkov.backends`, in Zarkov and in other packages.

Each names a subclass of `Backend`. Those of Zarkov are in pyproject.toml; `make setup` installs the checkout.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from ingest.metrics.backend.interface import Backend
from ingest.metrics.exceptions import BackendError

GROUP = "zarkov.backends"


def backend_names() -> list[str]:
    """Return the names of all backends, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_backend(name: str) -> type[Backend]:
    """Return the class of a backend. Raise `BackendError` if it is unknown or cannot be loaded."""
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    if point is None:
        raise BackendError(f"backend {name!r} is unknown: use {', '.join(backend_names())}")
    try:
        found = point.load()
    except Exception as error:
        raise BackendError(
            f"backend {name!r} cannot be loaded from entry point {point.value!r} of group {GROUP}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise BackendError(f"backend {name!r} is {found!r}, which is not a subclass of Backend")
    return found
