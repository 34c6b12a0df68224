"""Errors of the site layer: configuration, the home folder and the processes that `up` starts."""


class SiteError(Exception):
    """Base of every error that the site layer raises; its text is one line for a person."""

    code = "site_error"
    retryable = False


class ConfigError(SiteError):
    """A key or a value of the configuration is not allowed; the text names key, value and what is."""

    code = "bad_config"


class HomeError(SiteError):
    """The home folder is in use by another process, or something in it is missing."""

    code = "home_error"


class MongodError(SiteError):
    """No usable mongod was found, it did not start, or the server is not one that Zarkov can trust."""

    code = "mongod_error"
