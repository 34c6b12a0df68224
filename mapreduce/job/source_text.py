"""Functions sent as Python source text in a request, if `allow_source` is on: for trusted networks only.

The name of such a function is `text:NAME` followed by its source on the next lines, so the source travels wherever a
name does. It can do whatever the worker's user can do: anyone who can send a request controls the workers.
"""

from __future__ import annotations

import linecache
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mapreduce.exceptions import FunctionRefusedError, SpecError
from mapreduce.task_error import described, is_of_task

MAX_CHARACTERS = 64 * 2**10  # limit of one source text, which is sent to a worker with every step
_PREFIX = "text:"


def text_name(function: str, text: str) -> str:
    """Return the name of `function` defined in the source `text`. Raise `SpecError` if name or size is not allowed."""
    if not function.isidentifier():
        raise SpecError(f"function {function!r} of source text: must be the plain name of a function in it")
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"source text of {len(text)} characters: at most {MAX_CHARACTERS}; put it into a module")
    return f"{_PREFIX}{function}\n{text}"


def is_text(name: str) -> bool:
    """Return True if a function's name contains its source."""
    return name.startswith(_PREFIX)


def shown(name: str) -> str:
    """Return a function's name without its source, for people."""
    return name.partition("\n")[0] if is_text(name) else name


def split_text(name: str) -> tuple[str, str]:
    """Return function name and source text of a name for which `is_text` is true."""
    function, _, text = name.removeprefix(_PREFIX).partition("\n")
    return function, text


@lru_cache(maxsize=64)
def load_text(name: str) -> Callable[..., Any]:
    """Run the source text as a separate module and return its function. Raise `FunctionRefusedError`."""
    function, text = split_text(name)
    file = f"<text:{function}>"
    module = types.ModuleType("zarkov_source_text")
    try:
        exec(compile(text, file, "exec"), module.__dict__)
        found = getattr(module, function)
    except BaseException as error:
        if not is_of_task(error):
            raise
        raise FunctionRefusedError(f"source text of {function}: {described(error)}") from error
    if not callable(found):
        raise FunctionRefusedError(f"source text of {function}: it is a {type(found).__name__}, not a function")
    # Let tracebacks show lines of the source text.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return found  # type: ignore[no-any-return]
