"""Fields of forms that read what is typed as the rest of Zarkov does, and show it again as it was typed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from aggregates.definition.definition import MOST_JSON_CHARS
from aggregates.web.compute_thread import compute
from ingest.number_text import decimal_number, whole_number
from ingest.wire.json_value import loads_as_written
from ingest.wire.refusal import RefusedValueError


class ExactJSONField(forms.JSONField):
    """JSON in which no name stands twice, at any depth that can be read."""

    def to_python(self, value: Any) -> Any:
        """Return the decoded value. Raise `ValidationError` that says why a text is no JSON."""
        if self.disabled or value in self.empty_values or not isinstance(value, str):
            return super().to_python(value)
        if len(value) > MOST_JSON_CHARS:
            raise ValidationError(f"{len(value)} characters: at most {MOST_JSON_CHARS} are allowed", code="max_length")
        try:
            return compute(len(value), loads_as_written, value)
        except RefusedValueError as error:
            raise ValidationError(error.args[1], code="invalid") from None
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"not JSON: {error}", code="invalid") from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return the text itself: decoded, it may be one that no page can hold."""
        return initial if self.disabled else InvalidJSONInput(data or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return True if the text means another value, or none."""
        try:
            return bool(self.to_python(data) != initial)
        except ValidationError:
            return True


class ExactIntegerField(forms.IntegerField):
    """A whole number of the digits 0 to 9."""

    def to_python(self, value: Any) -> int | None:
        """Return the number. Raise `ValidationError` for other forms that Python reads, such as `1_000`."""
        _check(whole_number, value)
        return super().to_python(value)


class ExactFloatField(forms.FloatField):
    """A decimal of the digits 0 to 9."""

    def to_python(self, value: Any) -> Any:
        """Return the number. Raise `ValidationError` for other forms that Python reads, such as `1_000`."""
        _check(decimal_number, value)
        return super().to_python(value)


def _check(read: Any, value: Any) -> None:
    if isinstance(value, str) and (text := value.strip()):
        try:
            read(text)
        except ValueError as error:
            raise ValidationError(str(error), code="invalid") from None
