"""The error of a request whose body ends too early."""

from django.core.exceptions import BadRequest


class BrokenBodyError(BadRequest):
    """The connection broke, or the client stopped, before the whole body was there: its fault, not one of ours."""
