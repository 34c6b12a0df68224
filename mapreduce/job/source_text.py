"""Functions that come as Python source text with a request, where `allow_source` is on: for trusted networks only.

Such a function has the name `text:NAME` and its source in the lines below, so that it goes wherever a name goes. Text
can do whatever the worker's user may do: who can send a request owns the workers.
"""

from __future__ import annotations

import linecache
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mapreduce.exceptions import FunctionRefusedError, SpecError
from mapreduce.task_error import described, is_of_task

MAX_CHARACTERS = 64 * 2**10  # of one text: it goes to a worker with every step
_PREFIX = "text:"


def text_name(function: str, text: str) -> str:
    """The name that stands for `function` of the source `text`. Raises `SpecError`."""
    if not function.isidentifier():
        raise SpecError(f"function {function!r} of source text: allowed is the plain name of a function in it")
    if len(text) > MAX_CHARACTERS:
        raise SpecError(f"source text of {len(text)} characters: allowed are {MAX_CHARACTERS}; put it into a module")
    return f"{_PREFIX}{function}\n{text}"


def is_text(name: str) -> bool:
    """Whether a function's name holds its source."""
    return name.startswith(_PREFIX)


def shown(name: str) -> str:
    """A function's name for people: without the text."""
    return name.partition("\n")[0] if is_text(name) else name


def split_text(name: str) -> tuple[str, str]:
    """Function and source text of a name for which `is_text` holds."""
    function, _, text = name.removeprefix(_PREFIX).partition("\n")
    return function, text


@lru_cache(maxsize=64)
def load_text(name: str) -> Callable[..., Any]:
    """The function, from its text run as a module of its own. Raises `FunctionRefusedError`."""
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
        raise FunctionRefusedError(f"source text of {function}: it is a {type(found).__name__}; allowed is a function")
    # So that a traceback shows lines of the text.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return found  # type: ignore[no-any-return]
