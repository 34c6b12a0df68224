"""Read the JSON of request bodies as the receivers of events do, but into nothing but JSON's own types."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from aggregates.web.compute_thread import compute
from ingest.wire.json_value import loads_as_written
from ingest.wire.refusal import RefusedValueError


class UniqueNamesParser(JSONParser):
    """Refuse a name that stands twice in an object: the parser of REST framework would keep the last one."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return the decoded body. Raise `ParseError`."""
        try:
            body = stream.read()
            return compute(len(body), loads_as_written, body)
        except RefusedValueError as error:
            raise ParseError(error.args[1]) from None
        except (ValueError, RecursionError) as error:
            raise ParseError(f"the body is not JSON: {error}") from None
