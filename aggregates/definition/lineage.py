"""Check how definitions fit together: no output with two owners, no input without one, no cycles. Imports no Django."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aggregates.definition.definition import OUTPUT_PREFIX
from aggregates.exceptions import DefinitionError


@dataclass(frozen=True)
class DefinitionNode:
    """The name, outputs and inputs of a definition."""

    name: str
    output: str  # below "zagg.", as the definition says; its task may fill others
    outputs: tuple[str, ...] = ()  # what it fills; a final ".*" matches all below; empty before its first run
    inputs: tuple[str, ...] = ()

    def fills(self, output: str) -> bool:
        """Return True if the output is known to belong to this definition."""
        return any(
            output.startswith(each[:-1]) if each.endswith("*") else output == each
            for each in self.outputs or (self.output,)
        )

    def may_fill(self, output: str) -> bool:
        """Return True if the output belongs, or could belong, to it: before the first run, its outputs are unknown."""
        return self.fills(output) or (not self.outputs and output.startswith(f"{self.output}."))


class Owners(Protocol):
    """Find every definition that may fill an output, and possibly others, except the definition being checked."""

    def __call__(self, output: str, /) -> Sequence[DefinitionNode]: ...


def read_aggregates(inputs: Iterable[str]) -> list[str]:
    """Return the aggregates among the inputs, as output names without `zagg.`."""
    return [name.removeprefix(OUTPUT_PREFIX) for name in inputs if name.startswith(OUTPUT_PREFIX)]


def check_lineage(own: DefinitionNode, owners: Owners) -> None:
    """Raise `DefinitionError` if its output belongs to another definition, an input to none, or it reads itself."""
    for other in owners(own.output):
        if other.fills(own.output):
            raise DefinitionError(
                f"output zagg.{own.output} belongs to the aggregate {other.name!r}: choose another one, "
                f"or delete {other.name!r} first",
                "output",
            )
    for output in read_aggregates(own.inputs):
        _follow(own, output, owners)


def _follow(own: DefinitionNode, first: str, owners: Owners) -> None:
    seen: set[str] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(first, ())]
    while waiting:
        output, path = waiting.pop()
        if own.fills(output):
            way = " by way of " + ", ".join(path) if path else ""
            raise DefinitionError(f"inputs zagg.{first}: {own.name} would read itself{way}", "inputs")
        found = [other for other in owners(output) if other.may_fill(output)]
        if not found and not path:
            raise DefinitionError(
                f"inputs 'zagg.{output}': no aggregate fills it; define one first, and run it once if its task "
                "fills outputs with other names",
                "inputs",
            )
        for other in found:
            if other.name not in seen:
                seen.add(other.name)
                waiting += [(each, (*path, other.name)) for each in read_aggregates(other.inputs)]
