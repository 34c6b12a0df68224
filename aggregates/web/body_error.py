"""Errors of requests whose body cannot be worked on, both for Django, which reads forms, and for the REST framework."""

from __future__ import annotations

from django.core.exceptions import BadRequest, RequestDataTooBig

from aggregates.web.exceptions import TooLargeError, UnavailableError


class BrokenBodyError(BadRequest):
    """The connection broke, or the client stopped, before the whole body was there: its fault, not one of ours."""


class TooLargeBodyError(TooLargeError, RequestDataTooBig):
    """The body has more bytes than are accepted."""


class UnservedBodyError(UnavailableError, BadRequest):
    """So many others are under way that this one has no place: send it again later."""
