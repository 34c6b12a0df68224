"""Page through tables of Django's database, newest first, by a cursor that new rows do not shift."""

from __future__ import annotations

import base64
from typing import Any

from django.db.models import QuerySet

from aggregates.web.exceptions import BadRequestError


def make_cursor(number: int) -> str:
    """Return the cursor for the page after the row or document with this number."""
    return base64.urlsafe_b64encode(f"id:{number}".encode()).decode("ascii").rstrip("=")


def read_cursor(text: str) -> int | None:
    """Return the number in a cursor; None for an empty one. Raise `BadRequestError` for an invalid one."""
    if not text:
        return None
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        kind, _, number = plain.partition(":")
        if kind == "id" and number.isdecimal() and int(number) < 2**63:
            return int(number)
    except ValueError:
        pass
    raise BadRequestError(f"cursor = {text[:60]!r} is invalid: use `next` of the previous page", parameter="cursor")


def newest_page(rows: QuerySet[Any], cursor: str, limit: int) -> tuple[list[Any], str | None]:
    """Return up to `limit` rows with the highest keys below the cursor, and the next cursor (None at the end)."""
    below = read_cursor(cursor)
    found = list((rows if below is None else rows.filter(pk__lt=below)).order_by("-pk")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return found, make_cursor(found[-1].pk) if more else None
