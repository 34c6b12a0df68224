"""Parse and check the five fields of a crontab line for Celery."""

from __future__ import annotations

from django.core.exceptions import ValidationError

FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def split_crontab(text: str) -> dict[str, str]:
    """Return the fields by Celery's names. Raise `ValueError` naming what is wrong."""
    from celery.schedules import ParseException, crontab

    parts = text.split()
    if len(parts) != len(FIELDS):
        raise ValueError(
            f"crontab {text!r} has {len(parts)} fields: it must have 5, such as 15 3 * * * (daily at 3:15)"
        )
    fields = dict(zip(FIELDS, parts, strict=True))
    try:
        crontab(**fields)
    except (ParseException, ValueError) as error:
        raise ValueError(f"crontab {text!r}: {error}; write it like 15 3 * * * (daily at 3:15)") from None
    return fields


def check_crontab(text: str) -> None:
    """Validate a form field with `split_crontab`. Raise `ValidationError`."""
    try:
        split_crontab(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
