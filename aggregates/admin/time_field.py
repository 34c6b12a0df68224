"""A form field for a point in time, in the forms that addresses and commands read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms

from aggregates.exceptions import TimeTextError
from aggregates.time_reader import read_time


class TimeField(forms.CharField):
    """A text that becomes the first instant of what it names, in UTC unless it has an offset."""

    def clean(self, value: Any) -> datetime:
        """Return the instant. Raise `ValidationError` with what to write."""
        text: str = super().clean(value)
        try:
            return read_time(text, "UTC", datetime.now(UTC)).first
        except TimeTextError as error:
            raise forms.ValidationError(str(error)) from None
