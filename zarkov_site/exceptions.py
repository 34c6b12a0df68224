"""Errors of the site layer: configuration, the home folder and the processes that `up` starts."""

from typing import Any


class SiteError(Exception):
    """Base of all errors of the site layer; the text is one line for a person."""

    code = "site_error"
    retryable = False

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)


class ConfigError(SiteError, code="bad_config"):
    """A key or value of the configuration is not allowed; the text names key, value and what is allowed."""


class HomeError(SiteError, code="home_error"):
    """The home folder is in use by another process, or something in it is missing."""


class MongodError(SiteError, code="mongod_error"):
    """No usable mongod was found, it did not start, or the server lacks transactions."""
