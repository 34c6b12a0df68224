"""Describe the parameters, answers and errors of views in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from aggregates.time_reader import FORMS
from aggregates.web.api.serializers import ErrorSerializer
from aggregates.web.series.fill import FILLS

COMMON = (401, 403, 429)
_DESCRIPTIONS = {
    400: "The request is not valid.",
    401: "There is no login and no valid token.",
    403: "The login or token may not do this.",
    404: "It does not exist.",
    409: "It is not possible in the present state.",
    413: "The request or its answer is too large.",
    415: "The media type is not supported.",
    429: "Too many requests; see Retry-After.",
    503: "A part of the system does not answer; see Retry-After.",
}


def describe(
    answers: dict[Any, Any], *errors: int, parameters: list[OpenApiParameter] | None = None, **rest: Any
) -> Callable[[Any], Any]:
    """Return `extend_schema` with `errors` and the errors that every endpoint can answer."""
    refusals = {
        code: OpenApiResponse(ErrorSerializer, description=_DESCRIPTIONS[code]) for code in sorted({*COMMON, *errors})
    }
    return extend_schema(responses={**answers, **refusals}, parameters=parameters or [], **rest)


def text(name: str, description: str, **rest: Any) -> OpenApiParameter:
    """Return a text parameter of the query string."""
    return OpenApiParameter(name, OpenApiTypes.STR, description=description, **rest)


def number(name: str, description: str, least: int, most: int, default: int) -> OpenApiParameter:
    """Return a whole-number parameter of the query string, within bounds."""
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return OpenApiParameter(name, schema, description=description)


_FIELDS = text("fields", "Names of fields, separated by commas; by default all numeric fields.")
PREFIX = text("prefix", "Only keys that start with this text.")
RANGE = [
    text("from", f"Start of the range; {FORMS}."),
    text("to", "End of the range, in the same forms; a date ends with the last instant of what it names."),
    text(
        "tz",
        "Time zone of from and to, such as Europe/Berlin; by default that of the configuration. Keys have their own.",
    ),
]
BOM = text("bom", "1: begin a CSV file with a byte order mark, so that Excel reads it as UTF-8.", enum=["1"])
_FILL = OpenApiParameter(
    "fill", OpenApiTypes.STR, enum=[fill for fill in FILLS if fill], description="Value for periods without data."
)
SERIES = [
    _FIELDS,
    PREFIX,
    *RANGE,
    _FILL,
    number("bulk", "1: leave out outliers, and without `to` what comes after now, as pages do.", 0, 1, 0),
    number("limit", "Maximum number of series; the largest are kept.", 1, 500, 100),
]
