"""Types of setting values, each with its parser and checks; those that name hosts are in `server_address`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from email.headerregistry import HeaderRegistry
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ingest.time_zone import is_zone, zone_advice

_SIZE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*(\d+)\s*([a-zA-Z]*)\s*\Z", re.ASCII)
_SYNC = re.compile(r"(batch|off|interval:([1-9]\d{0,8}))\Z", re.ASCII)
MAX_SYNC_MS = 60_000  # losing more than a minute of events is not worth the speed
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_BRACKETED_IPV6 = re.compile(r"\[[0-9a-fA-F.]*:[^\[\]\s,\"']*\]")
_MARKS = re.compile(r"[\[\]{}\"]|^'|'$")  # apostrophes may be inside, as in o'brien@example.org
_LIST_FORMS = 'use one, two or ["one", "two"], and [] for none'
_ADDRESS = r"[^@\s,;:<>()\[\]{}\"\\*]+@[^@\s,;:<>()\[\]{}\"'\\*]+"
_EMAIL = re.compile(rf"{_ADDRESS}\Z")
_SENDER = re.compile(rf"({_ADDRESS}|[^<>@,;\[\]{{}}\x00-\x1f\x7f]+ <{_ADDRESS}>)\Z")


def _size(value: Any) -> Any:
    """Accept 8388608 and "8 MiB"."""
    if isinstance(value, str) and (match := _SIZE.match(value)):
        unit = _SIZE_UNITS.get(match[2].lower())
        if unit is not None:
            return int(match[1]) * unit
    return value


def read_list(value: Any) -> Any:
    """Accept a list, and as text "one.module, another.module" or a JSON list; "[]", since an empty text is the default.

    Raise `ValueError` for an empty item, and for text that is neither: brackets stand around IPv6 addresses only.
    """
    items = _split(value) if isinstance(value, str) else value
    if isinstance(items, list) and any(isinstance(item, str) and not item.strip() for item in items):
        raise ValueError(f"it has an empty item: {_LIST_FORMS}")
    return items


def _split(text: str) -> list[Any]:
    plain = [part.strip() for part in text.split(",")]
    if text.lstrip().startswith("[") and not _BRACKETED_IPV6.match(plain[0]):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise ValueError(f"it is not a JSON list of texts: {_LIST_FORMS}")
        return found
    if strange := [part for part in plain if _MARKS.search(_BRACKETED_IPV6.sub("", part))]:
        raise ValueError(f"{strange[0]!r} has marks of a list inside: {_LIST_FORMS}")
    return plain


def _task_modules(value: list[str]) -> list[str]:
    for name in value:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{name!r} is not the name of a module: use names such as shop.tasks")
    return value


def _folder(value: Any) -> Any:
    """Refuse names of folders that are most likely a mistake, such as an empty one, which is where Zarkov lies."""
    text = str(value) if isinstance(value, str | Path) else ""
    if isinstance(value, str) and (not text.strip() or text != text.strip() or not text.isprintable()):
        raise ValueError("use the name of a folder, without blanks around it and line ends")
    if text.startswith("~"):
        raise ValueError("~ is not replaced here: use the whole name, such as /home/zarkov/var")
    return value


def _sync(value: str) -> str:
    match = _SYNC.match(value)
    if not match or int(match[2] or 0) > MAX_SYNC_MS:
        raise ValueError(f"use batch, off or interval:MS (whole milliseconds, 1 to {MAX_SYNC_MS})")
    return value


def _zone(value: str) -> str:
    if not is_zone(value):
        raise ValueError(f"use {zone_advice(value)}")
    return value


def _database(value: str) -> str:
    if not _DATABASE.match(value):
        raise ValueError("use 1 to 63 letters, digits, _ and -")
    return value


def _addresses(value: list[str]) -> list[str]:
    for address in value:
        if not _EMAIL.match(address) or not address.isprintable():
            raise ValueError(f"{address!r} is not a mail address: use addresses such as ops@example.org")
    return value


def _sender(value: str) -> str:
    """Accept what may stand in the header From, on one line; a name in quotes may have any marks (RFC 5322, 3.4)."""
    quoted = value.startswith('"') and _is_mailbox(value)
    if not (quoted or _SENDER.match(value)) or not value.isprintable():
        raise ValueError("use a mail address such as zarkov@example.org, or with a name: Zarkov <zarkov@example.org>")
    return value


def _is_mailbox(value: str) -> bool:
    """Return True if the text is one mail address with a name, as Python writes it into a mail."""
    header = HeaderRegistry()("From", value)
    found: Sequence[Any] = getattr(header, "addresses", ())
    return not header.defects and len(found) == 1 and bool(found[0].display_name and _EMAIL.match(found[0].addr_spec))


Size = Annotated[int, BeforeValidator(_size), Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
TaskModules = Annotated[list[str], BeforeValidator(read_list), AfterValidator(_task_modules)]
Sync = Annotated[str, AfterValidator(_sync)]
Zone = Annotated[str, AfterValidator(_zone)]
DatabaseName = Annotated[str, AfterValidator(_database)]
Folder = Annotated[Path, BeforeValidator(_folder)]
Addresses = Annotated[list[str], BeforeValidator(read_list), AfterValidator(_addresses)]
Sender = Annotated[str, AfterValidator(_sender)]
