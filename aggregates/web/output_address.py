"""Address outputs by their names, which can be any that MongoDB allows: other programs write below `zagg.` too."""

from __future__ import annotations

from urllib.parse import quote

from django.urls import register_converter, reverse
from django.urls.converters import StringConverter

from aggregates.web.series.query import collection_name

_PLACE = "*"  # for the name: `reverse` leaves it as it is, and no path of `public_url` contains it


class OutputNameConverter(StringConverter):
    """Match the name of an output in a path: all characters but NUL, also slashes and line breaks."""

    regex = r"[^\0]+"


register_converter(OutputNameConverter, "output")


def output_address(view: str, name: str, *more: str) -> str:
    """Return the path of `view` for the output `zagg.<name>`; empty if the name is none that can be read.

    Every character is percent-encoded that could mean something else in a path, in a shell's quotes or to a browser,
    which drops `/./` (WHATWG URL, section 4.4).
    """
    if collection_name(name) is None:
        return ""
    return reverse(view, args=[_PLACE, *more]).replace(_PLACE, quote(name, safe=""), 1)
