"""Read YAML in which keys are unique (YAML 1.2.2, section 3.2.1.1); PyYAML keeps the last one without a word."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

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


def loads(text: str) -> Any:
    """Return what the text holds. Raise `yaml.YAMLError`."""
    try:
        return yaml.load(text, UniqueKeyLoader)
    except ValueError as error:  # of a date such as 2011-13-45
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
