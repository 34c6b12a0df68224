"""docs/http-api.md describes all endpoints, error codes, operators and time formats."""

from __future__ import annotations

import re

from drf_spectacular.generators import SchemaGenerator

from aggregates import time_reader
from aggregates.exceptions import AggregateError
from aggregates.web.api.exception_handler import _CODES, from_service_error
from aggregates.web.exceptions import WebError
from aggregates.web.series.query_filter import COMBINE, COMPARE
from zarkov_site.config.config import REPOSITORY

TEXT = (REPOSITORY / "docs" / "http-api.md").read_text()


def _all(kind: type) -> list[type]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _all(sub))]


def test_exactly_the_existing_endpoints_are_described() -> None:
    known = set(SchemaGenerator().get_schema(public=True)["paths"])  # type: ignore[no-untyped-call]
    described = set(re.findall(r"`(?:POST |GET )?(/api/v1/[^`?]+)(?:\?[^`]*)?`", TEXT)) - {"/api/v1/"}
    assert described == known | {"/api/v1/schema/"}


def test_every_error_code_is_in_the_table() -> None:
    codes = {kind.code for kind in _all(WebError)} - {"error"} | set(_CODES.values())
    served = {from_service_error(AggregateError("x")).code}
    rows = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| \d.*$", TEXT, re.MULTILINE))))
    assert codes <= rows
    assert served


def test_every_filter_operator_is_described() -> None:
    for operator in COMPARE | COMBINE:
        assert f"`{operator}`" in TEXT


def test_every_form_of_a_relative_time_is_described() -> None:
    for form in re.findall(r"-\d+[a-z]+", time_reader.FORMS):
        assert f"`{form}`" in TEXT
