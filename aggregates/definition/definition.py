"""Hold an aggregate definition as a plain value, and check its fields. Imports no Django."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import json_util
from bson.errors import BSONError

from aggregates.definition.fields import check_storable
from aggregates.definition.filter_check import check_conditions, letters_of_regex
from aggregates.exceptions import DefinitionError
from ingest.wire.extended_json import value_of
from ingest.wire.refusal import RefusedValueError
from mapreduce.job.value_check import DATABASE_BYTES, NAMESPACE_BYTES

EVENT = "event"
OUTPUT_PREFIX = "zagg."
ON_ERROR = ("fail", "skip")
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?\Z")
MOST_INPUTS = 1_000
MOST_JSON_CHARS = 2**18  # of a filter or of parameters, which go with every step of a job
_OF_REGEX = frozenset({"$regex", "$options"})
_COLLECTION = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+\Z")


def check_name(name: str, field_name: str = "name") -> str:
    """Return `name` if it is valid for an aggregate or an output, else raise `DefinitionError`."""
    if not NAME.match(name) or ".." in name:
        raise DefinitionError(
            f"{field_name} {name!r} is not allowed: use 1 to 100 letters, digits, _, - and single dots inside, "
            "such as commits_by_day",
            field_name,
        )
    return name


def output_name(collection: str) -> str:
    """Return the output name of a collection given with or without the prefix `zagg.`. Raise `DefinitionError`."""
    return check_name(collection.removeprefix(OUTPUT_PREFIX), "output")


def check_inputs(inputs: Any) -> tuple[str, ...]:
    """Return the inputs: `event`, or collections (`database.collection`), or aggregates (`zagg.name`), never mixed.

    Raise `DefinitionError`.
    """
    if isinstance(inputs, str) or not isinstance(inputs, Sequence) or not inputs:
        raise DefinitionError(f'inputs must be a list such as ["event"], not {inputs!r}', "inputs")
    if len(inputs) > MOST_INPUTS:
        raise DefinitionError(f"inputs has {len(inputs)} names: at most {MOST_INPUTS} are allowed", "inputs")
    names = tuple(str(name) for name in inputs)
    for name in names:
        if name != EVENT and not _COLLECTION.match(name):
            raise DefinitionError(
                f'inputs {name!r} is not allowed: use "event", "database.collection" or "zagg.name"', "inputs"
            )
        if len(name) > NAMESPACE_BYTES or len(name.partition(".")[0]) > DATABASE_BYTES:
            raise DefinitionError(
                f"inputs {name[:80]!r}... is too long: MongoDB allows {DATABASE_BYTES} characters for a database, and "
                f"{NAMESPACE_BYTES} with the collection",
                "inputs",
            )
    kinds = {input_kind(name) for name in names}
    if len(kinds) > 1:
        raise DefinitionError(f"inputs {list(names)}: events, collections and aggregates do not mix", "inputs")
    return names


def input_kind(name: str) -> str:
    """Return `event`, `aggregate` or `collection`."""
    if name == EVENT:
        return EVENT
    return "aggregate" if name.startswith(OUTPUT_PREFIX) else "collection"


def check_filter(value: Any) -> dict[str, Any]:
    """Return the filter for MongoDB, with extended JSON such as `{"$date": ...}` decoded. Raise `DefinitionError`.

    No condition is left out: `$regex` beside other operators stays an operator, and `{"$ref": ...}` a document.
    """
    if not isinstance(value, Mapping):
        raise DefinitionError(f'filter must be a document such as {{"type": "commit"}}, not {value!r}', "filter")
    check_storable("filter", value)
    try:
        decoded: dict[str, Any] = json.loads(json_util.dumps(value), object_hook=_filter_value)
    except RefusedValueError as error:
        raise DefinitionError(f"filter {value!r} is not extended JSON: {error.args[1]}", "filter") from None
    except (ValueError, TypeError, ArithmeticError, RecursionError, BSONError) as error:
        raise DefinitionError(f"filter {value!r} is not extended JSON: {error}", "filter") from None
    check_conditions(decoded)
    return decoded


def _filter_value(document: dict[str, Any]) -> Any:
    if "$regex" in document and not (document.keys() <= _OF_REGEX and letters_of_regex(document.get("$options", ""))):
        return document  # operators of a query, which are checked as such
    return value_of(document)


def check_size(value: Any, field_name: str) -> None:
    """Raise `DefinitionError` if the value is too large, or no JSON. Later checks look at all that is in it."""
    length = check_json(value, field_name)
    if length > MOST_JSON_CHARS:
        raise DefinitionError(
            f"{field_name} has {length} characters as JSON: at most {MOST_JSON_CHARS} are allowed", field_name
        )


def check_json(value: Any, field_name: str) -> int:
    """Return the length of the value as JSON, in characters. Raise `DefinitionError` unless it can be kept so."""
    try:
        return len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise DefinitionError(
            f'{field_name} is not JSON: {error}; write dates as {{"$date": "2011-07-01T00:00:00Z"}}', field_name
        ) from None


@dataclass(frozen=True)
class Definition:
    """The fields of an AggDef that runs need. The code that creates it has to check them first."""

    name: str
    task_name: str
    output: str  # name below "zagg."
    params: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the task
    inputs: tuple[str, ...] = (EVENT,)
    filter: Mapping[str, Any] = field(default_factory=dict)
    id_key: str = "_id"  # increasing key of inputs that are not events
    settle_s: float = 0.0  # minimum age of documents of such inputs, in seconds, before they are read
    on_error: str = ""  # "" leaves it to the task
    realtime: bool = False

    @property
    def kind(self) -> str:
        """Return the kind of the inputs: `event`, `aggregate` or `collection`."""
        return input_kind(self.inputs[0])

    def fingerprint(self) -> str:
        """Return a hash of all fields that affect the results; 16 hexadecimal digits."""
        content = json_util.dumps(
            [self.task_name, dict(self.params), list(self.inputs), dict(self.filter), self.id_key], sort_keys=True
        )
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def check_params(value: Any) -> dict[str, Any]:
    """Return the keyword arguments of a task. Raise `DefinitionError` unless keys are Python names and values JSON."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and k.isidentifier() for k in value):
        raise DefinitionError(f'params must be an object such as {{"project": "celery"}}, not {value!r}', "params")
    check_json(value, "params")
    check_storable("params", value)
    return dict(value)
