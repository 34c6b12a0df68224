"""Read YAML in which keys are unique (YAML 1.2.2, section 3.2.1.1); PyYAML keeps the last one without a word."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_PLAIN = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
_MERGE = "tag:yaml.org,2002:merge"


class UniqueKeyLoader(yaml.SafeLoader):
    """A YAML loader that refuses keys that are given twice, also as a number and as its text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the node as a dict. Raise `ConstructorError` with the lines of both keys."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            value = "<<" if key.tag == _MERGE else self.construct_object(key, deep=True)
            if not isinstance(value, Hashable):
                continue  # refused below
            for form in (value, str(value)):
                if form in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {value} is given twice, first in line {seen[form]}", key.start_mark
                    )
            seen |= dict.fromkeys((value, str(value)), key.start_mark.line + 1)
        return super().construct_mapping(node, deep)


class PlainNumberLoader(UniqueKeyLoader):
    """A `UniqueKeyLoader` that reads numbers in other forms than plain decimal as text, as they are written.

    YAML 1.1 reads 010 as 8, 0x1F as 31, 1_000 as 1000 and 1:30 as 90 (https://yaml.org/type/int.html and float.html).
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        """Return the number, or its text."""
        return super().construct_yaml_int(node) if _PLAIN.match(node.value) else node.value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        """Return the number, or its text."""
        return super().construct_yaml_float(node) if _PLAIN.match(node.value) else node.value


for _tag, _read in (("int", PlainNumberLoader.construct_yaml_int), ("float", PlainNumberLoader.construct_yaml_float)):
    PlainNumberLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _read)


def loads(text: str, *, plain_numbers: bool = False) -> Any:
    """Return what the text holds; with `plain_numbers`, see `PlainNumberLoader`. Raise `yaml.YAMLError`."""
    try:
        return yaml.load(text, PlainNumberLoader if plain_numbers else UniqueKeyLoader)
    except ValueError as error:  # of a date such as 2011-13-45
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
