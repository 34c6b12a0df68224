"""Errors keep their text and data when they cross a process boundary, and their codes are stable and different."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from aggregates import exceptions as of_aggregates
from aggregates.web import exceptions as of_web
from ingest import exceptions as of_ingest
from ingest.metrics import exceptions as of_metrics
from mapreduce import exceptions as of_mapreduce
from zarkov_site import exceptions as of_site

MODULES = (of_aggregates, of_web, of_ingest, of_metrics, of_mapreduce, of_site)


def errors_of(module: object) -> list[type[Exception]]:
    """Return the error classes that `module` defines."""
    name = module.__name__  # type: ignore[attr-defined]
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == name
    ]


@pytest.mark.parametrize("kind", [kind for module in MODULES for kind in errors_of(module)])
def test_an_error_keeps_its_text_and_its_data_when_it_is_pickled(kind: type[Exception]) -> None:
    error = kind("three words here")
    vars(error).update({name: f"given {name}" for name in vars(error)})
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


@pytest.mark.parametrize("module", MODULES)
def test_codes_differ_within_a_package(module: object) -> None:
    repeated = {code for code, count in Counter(kind.code for kind in errors_of(module)).items() if count > 1}  # type: ignore[attr-defined]
    assert not repeated


def test_a_class_statement_sets_code_and_the_other_attributes_and_subclasses_inherit_them() -> None:
    assert (of_web.UnavailableError.code, of_web.UnavailableError.status) == ("unavailable", 503)
    assert (of_web.IngestBusyError.code, of_web.IngestBusyError.status, of_web.IngestBusyError.retry_after_s) == (
        "busy", 503, 5,
    )  # fmt: skip
    assert (of_ingest.JournalFullError.code, of_ingest.JournalFullError.retryable) == ("journal_full", True)
    assert (of_aggregates.RunCancelledError.retryable, of_aggregates.RouterAbsentError.exit_code) == (False, 2)
    assert not of_web.BadRequestError.retryable
