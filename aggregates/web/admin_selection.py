"""Refuse requests to the admin that choose what it does not offer, and that Django answers with 500."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import TO_FIELD_VAR
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import DateTimeField
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.utils.dateparse import parse_datetime

_LOOKUPS = frozenset({"exact", "isnull", "gte", "lt", "year", "month", "day"})  # that filters of the admin use
_YEAR = re.compile(r"[0-9]{1,4}\Z")
_LONG_NUMBER = re.compile(r"-?[0-9]{19,}\Z")


class AdminSelection:
    """Refuse rows of the admin that are chosen by what cannot be their key, or by a filter that no list has.

    Django's actions and its fields with suggestions answer 500 to the former, and its lists to many of the latter; a
    regular expression would be searched for by SQLite in this process, for minutes if it is made for that.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        """Raise `BadRequest` with the first such key or filter."""
        model_admin = getattr(view, "model_admin", None)
        if model_admin is None:
            return
        for name, values in request.GET.lists():
            if "__" in name:
                _check_lookup(name, values)
        _check_keys(model_admin.opts.pk, request.POST.getlist(ACTION_CHECKBOX_NAME))
        _check_target(model_admin.opts, request.GET.getlist(TO_FIELD_VAR) + request.POST.getlist(TO_FIELD_VAR))
        if (getattr(request.resolver_match, "url_name", "") or "").endswith("_add"):
            _check_first_values(model_admin, request.GET)
        keys = {
            field.name: field.remote_field.model._meta.pk
            for each in (model_admin, *model_admin.inlines)
            for field in (*each.model._meta.fields, *each.model._meta.many_to_many)
            if field.remote_field
        }
        for given in (request.GET, request.POST):
            for name, values in given.lists():
                if key := keys.get(name.rpartition("-")[2]):  # fields of an inline are named prefix-0-field
                    chosen = values if given is request.POST else ",".join(values).split(",")
                    _check_keys(key, [each for each in chosen if each])


def _check_target(model: Any, names: list[str]) -> None:
    """Raise `BadRequest` for a name by which a popup is to refer to rows, and that no column has."""
    for name in names:
        if name not in {column for field in model.fields for column in (field.name, field.attname)}:
            raise BadRequest(f"{name[:60]!a} is no field of this list")


def _check_first_values(model_admin: Any, given: QueryDict) -> None:
    """Raise `BadRequest` for a time that a new row is to begin with: Django's form for times takes no text."""
    for field in model_admin.opts.fields:
        if isinstance(field, DateTimeField) and field.name in given:
            raise BadRequest(f"{field.name} cannot be given in the address: enter it in the form")


def _check_keys(key: Any, values: list[str]) -> None:
    for chosen in values:
        try:
            key.clean(chosen, None)
        except ValidationError:
            raise BadRequest(f"{chosen[:60]!a} is no row of this list: reload it") from None


def _is_beyond_time(value: str) -> bool:
    """Return True for a date and time that UTC has no year for, from 1 to 9999."""
    try:
        moment = parse_datetime(value)
        return moment is not None and moment.tzinfo is not None and not moment.astimezone(UTC)
    except OverflowError:
        return True
    except ValueError:
        return False  # which Django itself refuses


def _check_lookup(name: str, values: list[str]) -> None:
    operator = name.rpartition("__")[2]
    if operator not in _LOOKUPS:
        raise BadRequest(f"no list of the admin is filtered by {name[:60]!a}: use its filters and its search")
    for value in values:
        is_no_year = operator == "year" and not (_YEAR.match(value) and int(value))
        if is_no_year or _LONG_NUMBER.match(value) or _is_beyond_time(value):
            raise BadRequest(f"{value[:60]!a} is out of range for {name[:60]!a}")
