"""Create access tokens, for `manage.py token` and the admin."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction

from aggregates.models.access import AccessToken, check_scopes
from aggregates.web.exceptions import BadRequestError

MAX_NAME = 120
MAX_DAYS = 36_500


def make_token(
    name: str, scopes: Sequence[str], *, collections: Sequence[str] = (), days: int | None = None
) -> tuple[AccessToken, str]:
    """Create a token called `name`. Return it with its text, which is not stored and cannot be shown again.

    It belongs to the user of that name, who is created without a password if necessary; disabling the user disables
    the token. Raise `BadRequestError` for an invalid name, unknown scopes or an invalid number of days.
    """
    if not name.strip() or len(name) > MAX_NAME:
        raise BadRequestError(f"name {name[:60]!r} is not allowed: use 1 to {MAX_NAME} characters")
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise BadRequestError(f"days {days} is not allowed: use 1 to {MAX_DAYS}, or none for no expiry")
    try:
        check_scopes(list(scopes), list(collections))
    except ValidationError as error:
        raise BadRequestError("; ".join(error.messages)) from None
    with transaction.atomic():
        user, made = get_user_model().objects.get_or_create(username=name)
        if made:
            user.set_unusable_password()
            user.save()
        token, text = AccessToken.objects.create(
            user=user,
            expiry=timedelta(days=days) if days is not None else None,
            name=name,
            scopes=",".join(scopes),
            collections=",".join(collections),
        )
    return token, text
