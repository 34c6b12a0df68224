"""Create, show and drop the generations of an output.

A generation is the collection `zgen.<name>.<n>`; the view `zagg.<name>` shows one of them. An output `<name>.*` matches
every output with that prefix; the collections of a generation show which ones exist.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from aggregates.exceptions import OutputTakenError
from aggregates.run import failpoint
from aggregates.run.position import Position
from aggregates.run.position_store import PositionStore

log = logging.getLogger(__name__)

_NAMESPACE_EXISTS = 48
_NAMESPACE_NOT_FOUND = 26
_NOT_A_VIEW = 72  # InvalidOptions: collMod with viewOn on a plain collection


def collection_name(output: str, generation: int) -> str:
    return f"zgen.{output}.{generation}"


def is_pattern(output: str) -> bool:
    return output.endswith("*")


class Generations:
    """Create, show and drop generations. Every method blocks on MongoDB and can safely be called again."""

    def __init__(self, database: Database[dict[str, Any]], position_store: PositionStore) -> None:
        self._database = database
        self._position_store = position_store

    def create(self, outputs: Iterable[str], generation: int) -> None:
        """Create the empty collections, so that readers find an empty output rather than none."""
        for output in outputs:
            if not is_pattern(output):
                _create(self._database, collection_name(output, generation))

    def expand_patterns(self, outputs: Iterable[str], generation: int) -> list[str]:
        """Return the outputs, with each pattern replaced by the outputs that match it in this generation."""
        names: list[str] = []
        for output in outputs:
            if not is_pattern(output):
                names.append(output)
                continue
            pattern = f"^zgen\\.{re.escape(output[:-1])}(.+)\\.{generation}$"
            found = self._database.list_collection_names(filter={"name": {"$regex": pattern}})
            names += sorted(name.removeprefix("zgen.").rpartition(".")[0] for name in found)
        return names

    def switch_views(self, position: Position) -> Position:
        """Switch the views to the position's generation, each atomically; return the updated position.

        A slow process that has switched to an older generation notices from the position, and corrects it.
        """
        patterns = [output for output in position.outputs if is_pattern(output)]
        if position.shown == position.generation and patterns:
            self._set_views(position)
        while position.shown != position.generation and position.generation:
            self._set_views(position)
            failpoint.hit("switched")
            position = self._position_store.record_shown(position.name, position.generation)
        return position

    def _set_views(self, position: Position) -> None:
        for output in self.expand_patterns(position.outputs, position.generation):
            self._set_view(output, collection_name(output, position.generation))

    def wrong_views(self, position: Position) -> list[str]:
        """Return the outputs whose view is missing or does not show the position's generation."""
        wanted = {f"zagg.{output}": output for output in self.expand_patterns(position.outputs, position.generation)}
        right = set()
        for found in self._database.list_collections(filter={"name": {"$in": sorted(wanted)}}):
            options = found.get("options", {})
            target = collection_name(wanted[found["name"]], position.generation)
            if found["type"] == "view" and options.get("viewOn") == target and not options.get("pipeline"):
                right.add(found["name"])
        return [output for view, output in wanted.items() if view not in right]

    def repair_views(self, position: Position) -> Position:
        """Repair views that were dropped or changed; return the latest position.

        If another process switches the generation meanwhile, the views show the new one. Raise `OutputTakenError` if
        a plain collection has the name of a view.
        """
        while position.generation:
            position = self.switch_views(position)
            wrong = self.wrong_views(position)
            now = self._position_store.get(position.name)
            if (now.generation, now.shown) == (position.generation, position.shown):
                if not wrong:
                    break
                for output in wrong:
                    log.warning("view missing or wrong, repairing it view=zagg.%s", output)
                    self._set_view(output, collection_name(output, position.generation))
            position = now
        return position

    def _set_view(self, output: str, target: str) -> None:
        view = f"zagg.{output}"
        try:
            self._database.command({"collMod": view, "viewOn": target, "pipeline": []})
        except OperationFailure as error:
            if error.code != _NAMESPACE_NOT_FOUND:
                raise self._translated(error, view) from error
            try:
                self._database.command({"create": view, "viewOn": target, "pipeline": []})
            except OperationFailure as second:
                if second.code != _NAMESPACE_EXISTS:
                    raise self._translated(second, view) from second
                self._set_view(output, target)

    def check_view_names(self, outputs: Iterable[str]) -> None:
        """Raise `OutputTakenError` if a plain collection has the name of a view."""
        wanted = {f"zagg.{output}" for output in outputs if not is_pattern(output)}
        query = {"name": {"$in": sorted(wanted)}, "type": "collection"}
        for name in self._database.list_collection_names(filter=query):
            raise OutputTakenError(_name_taken(name))

    def _translated(self, error: OperationFailure, view: str) -> Exception:
        plain = self._database.list_collection_names(filter={"name": view, "type": "collection"})
        return OutputTakenError(_name_taken(view)) if plain or error.code == _NOT_A_VIEW else error

    def drop_retired(self, position: Position, grace_s: float, pinned: Iterable[int] = ()) -> list[int]:
        """Drop generations retired at least `grace_s` ago, and collections that belong to no known generation.

        Return the numbers of the retired generations dropped. A collection that a late worker has created again after
        its drop goes too.
        """
        now = self._position_store.now()
        kept = {position.generation, position.shown, *pinned}
        below = position.open_build.generation if position.open_build else position.next_generation
        waiting = {n for n, at in position.retired if (now - at).total_seconds() < grace_s}
        for output in position.outputs:
            for name, number in self._collections_of(output):
                if number not in kept | waiting and number < below:
                    self._database.drop_collection(name)
        gone = [n for n, _ in position.retired if n not in kept | waiting]
        if gone:
            failpoint.hit("dropped")
            self._position_store.record_dropped(position.name, gone)
        return gone

    def _collections_of(self, output: str) -> list[tuple[str, int]]:
        stem = re.escape(output[:-1]) + ".+" if is_pattern(output) else re.escape(output)
        found = self._database.list_collection_names(filter={"name": {"$regex": f"^zgen\\.{stem}\\.[0-9]+$"}})
        return [(name, int(name.rpartition(".")[2])) for name in found]

    def drop_all(self, position: Position) -> None:
        """Drop the views and all generations; the caller removes the position."""
        for output in position.outputs:
            names = self.expand_patterns([output], position.generation) if is_pattern(output) else [output]
            for name in names:
                views = self._database.list_collection_names(filter={"name": f"zagg.{name}", "type": "view"})
                for view in views:
                    self._database.drop_collection(view)
            for collection, _ in self._collections_of(output):
                self._database.drop_collection(collection)


def _create(database: Database[dict[str, Any]], name: str) -> None:
    try:
        database.command({"create": name})
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise


def _name_taken(name: str) -> str:
    return (
        f"{name} is a collection, but a view needs that name: rename it, or give the aggregate another output "
        "(aggregates keep their documents in zgen.* and show them as views)"
    )
