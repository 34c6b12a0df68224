"""Errors of the site layer: configuration, the home folder and the processes that `up` starts."""


class SiteError(Exception):
    """Base of all errors of the site layer; the text is one line for a person."""

    code = "site_error"
    retryable = False


class ConfigError(SiteError):
    """A key or value of the configuration is not allowed; the text names key, value and what is allowed."""

    code = "bad_config"


class HomeError(SiteError):
    """The home folder is in use by another process, or something in it is missing."""

    code = "home_error"


class MongodError(SiteError):
    """No usable mongod was found, it did not start, or the server lacks transactions."""

    code = "mongod_error"
