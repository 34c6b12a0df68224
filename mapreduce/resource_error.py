"""Errors of a machine that lacks something for a step: space, memory, or a module or file that a task needs."""

from __future__ import annotations

import locale
import re
from collections.abc import Iterator
from subprocess import SubprocessError
from types import ModuleType

from pymongo.errors import PyMongoError

from mapreduce.exceptions import WorkerUnableError
from mapreduce.task_error import described, raising_module

# What is installed on a host, what it may use and whom it reaches. `OSError` includes errors of files, connections,
# name resolution and TLS, and those of `urllib` and `requests`.
_OF_HOST = (ImportError, SyntaxError, OSError, MemoryError, locale.Error, SubprocessError, PyMongoError)
# The same by the name of a class or of one it is derived from, because the modules need not be loaded. The first two
# are those of every database driver: errors "not necessarily under the control of the programmer" (PEP 249).
_OF_HOST_NAMES = {
    "OperationalError", "InterfaceError",
    "ConnectionError", "ConnectError", "TimeoutError",
    "HTTPException",  # http.client
    "ZoneInfoNotFoundError", "UnknownTimeZoneError",  # zoneinfo, pytz
}  # fmt: skip
_NO_USER = re.compile(r"\(.get(?:pwnam|pwuid|grnam|grgid)\(\): ")  # in a `KeyError` of `pwd` and `grp`
_NO_THREAD = "can't start new thread"  # text of CPython's `RuntimeError`, which has no class of its own


def as_unable(error: BaseException) -> WorkerUnableError | None:
    """Return `error`, raised outside task code, as a lack of this machine; None if it is anything else.

    Every `OSError` counts: the engine reads and writes only files of its own, so it is not the job that is wrong.
    """
    if isinstance(error, WorkerUnableError):
        return error
    if isinstance(error, OSError | MemoryError) or (isinstance(error, RuntimeError) and _NO_THREAD in str(error)):
        return WorkerUnableError(
            f"the worker cannot do the step: {described(error)}: check its disk, memory and limits"
        )
    return None


def may_be_of_host(error: BaseException) -> bool:
    """Return True if `error`, raised by task code, may come from the host: the same code may work on another one.

    It counts what `error` was raised from, or raised while handling, because many libraries wrap such errors.
    """
    return any(_is_of_host(found) for found in _chain(error))


def _is_of_host(error: BaseException) -> bool:
    if isinstance(error, _OF_HOST) or any(kind.__name__ in _OF_HOST_NAMES for kind in type(error).__mro__):
        return True
    if isinstance(error, AttributeError):  # another version of a library
        return isinstance(error.obj, ModuleType)
    if isinstance(error, KeyError):  # `os.environ["NAME"]`, `pwd.getpwnam("NAME")`
        return raising_module(error) == "os" or _NO_USER.match(str(error.args[:1])) is not None
    if type(error) is LookupError:  # a codec, or a handler of its errors
        return str(error).startswith("unknown e")
    if isinstance(error, ValueError):  # a hash that OpenSSL lacks, or may not compute
        return raising_module(error) in ("hashlib", "hmac")
    return isinstance(error, RuntimeError) and _NO_THREAD in described(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, its causes and contexts as a traceback shows them, and the members of groups; each once."""
    pending, seen = [error], set[int]()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, BaseExceptionGroup):
            pending += found.exceptions
        if found.__cause__ is not None:
            pending.append(found.__cause__)
        elif found.__context__ is not None and not found.__suppress_context__:
            pending.append(found.__context__)
