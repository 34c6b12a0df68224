"""Find the code that a task uses by reading source text: its own statements, and those they refer to. Runs no code.

A module is split into its top-level statements. From the statement that defines a task, names are followed to the
statements that bind them, through imports into other modules of the project, and so on. A change anywhere else does not
change the task. A module counts as a whole if names in it cannot be followed: if it is used as an object
(`getattr(helper, name)`), evaluates text, imports by computed names, or leaves a name unbound.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

WHOLE_MODULE = "*"
_COMPUTED = frozenset({"__import__", "eval", "exec", "globals", "import_module"})
_BUILTIN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__spec__", "__package__", "__path__"}

Target = tuple[str, tuple[str, ...]]  # a module, and a dotted name in it


@dataclass(frozen=True)
class Statement:
    """A top-level statement of a module."""

    text: str
    binds: frozenset[str]  # names bound at the top level
    uses: frozenset[tuple[str, ...]]  # dotted names as written, ("helper", "WEIGHT")
    local: frozenset[str]  # names bound somewhere inside
    imports: Mapping[str, Target]  # imported names, at the top level or inside
    is_import: bool  # the statement is an import
    has_side_effects: bool  # may change what other statements have bound, such as `TABLE["a"] = 1`


@dataclass(frozen=True)
class ModuleSource:
    """The statements of a module. `stars` are the modules from which it imports `*`."""

    name: str
    statements: tuple[Statement, ...]
    stars: tuple[str, ...] = ()

    def binding(self, name: str) -> list[int]:
        """Return the indexes of the statements that bind `name`."""
        return [number for number, statement in enumerate(self.statements) if name in statement.binds]


Load = Callable[[str], ModuleSource | None]


@dataclass
class UsedCode:
    """The statements that a task uses, by module, and which module uses which."""

    statements: dict[str, dict[int, str]] = field(default_factory=dict)  # texts by index
    names: dict[str, set[str]] = field(default_factory=dict)  # names used in each module
    edges: dict[str, set[str]] = field(default_factory=dict)  # modules that each module uses

    def version(self) -> str:
        """Return a hash of all these statements; 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for module, statements in sorted(self.statements.items()):
            digest.update(f"\0{module}\0".encode())
            for _, text in sorted(statements.items()):
                digest.update(text.encode() + b"\0")
        return digest.hexdigest()[:16]

    def modules(self) -> list[str]:
        """Return every module used, each after those that it uses; the order within a cycle is undefined."""
        done: dict[str, None] = {}
        started: set[str] = set()

        def visit(name: str) -> None:
            if name not in started:
                started.add(name)
                for other in sorted(self.edges.get(name, ())):
                    visit(other)
                done[name] = None

        for name in sorted(self.names):
            visit(name)
        return list(done)


def find_used_code(roots: Iterable[tuple[str, str]], load: Load) -> UsedCode:
    """Return the code that `roots`, as (module, name), use. `load` returns None for modules outside the project."""
    search = _Search(load)
    for module, name in roots:
        search.follow(module, (), "") if name == WHOLE_MODULE else search.follow(module, (name,), "")
    search.finish()
    return search.found


class _Search:
    def __init__(self, load: Load) -> None:
        self.found = UsedCode()
        self._load = load
        self._followed: set[tuple[str, tuple[str, ...]]] = set()
        self._pending: list[tuple[str, tuple[str, ...]]] = []

    def finish(self) -> None:
        """Follow pending names, and statements that modify used names, until nothing new is found."""
        while self._pending:
            while self._pending:
                self._use_name(*self._pending.pop())
            for name in list(self.found.names):
                module = self._load(name)
                assert module is not None
                for number, statement in enumerate(module.statements):
                    roots = {use[0] for use in statement.uses}
                    if statement.has_side_effects and roots & self.found.names[name]:
                        self._use(module, number)

    def follow(self, module: str, names: tuple[str, ...], origin: str) -> None:
        """Follow a reference from module `origin` to `names` in `module`; without names, to the module itself."""
        if self._load(module) is None:
            return
        self.found.names.setdefault(module, set())
        if origin and origin != module:
            self.found.edges.setdefault(origin, set()).add(module)
        if (module, names) not in self._followed:
            self._followed.add((module, names))
            self._pending.append((module, names))

    def _use_name(self, name: str, names: tuple[str, ...]) -> None:
        module = self._load(name)
        assert module is not None
        if not names:
            self._use_whole_module(module)
            return
        head, rest = names[0], names[1:]
        bound = module.binding(head)
        if bound:
            self.found.names[name].add(head)
            for number in bound:
                target = module.statements[number].imports.get(head)
                if target is not None and module.statements[number].is_import:
                    self._use_import(name, number, head, target, rest)
                    continue
                self._use(module, number)
                if target is not None:
                    self.follow(target[0], (*target[1], *rest), name)
            return
        if self._load(f"{name}.{head}") is not None:
            self.follow(f"{name}.{head}", rest, name)
            return
        stars = [star for star in module.stars if (other := self._load(star)) and other.binding(head)]
        for star in stars:
            self.follow(star, names, name)
        star_from_outside = any(self._load(star) is None for star in module.stars)  # which may bind the name
        if not stars and head not in _BUILTIN and not star_from_outside:
            self._use_whole_module(module)

    def _use_import(self, name: str, number: int, head: str, target: Target, rest: tuple[str, ...]) -> None:
        module, names = target
        line = f"{head} = {'.'.join((module, *names))}"
        texts = self.found.statements.setdefault(name, {})
        lines = dict.fromkeys([*texts.get(number, "").splitlines(), line])
        texts[number] = "\n".join(sorted(lines))
        self.follow(module, (*names, *rest), name)

    def _use_whole_module(self, module: ModuleSource) -> None:
        for number in range(len(module.statements)):
            self._use(module, number)

    def _use(self, module: ModuleSource, number: int) -> None:
        """Record a statement as used, and follow every name in it."""
        key = (module.name, ("", str(number)))
        if key in self._followed:
            return
        self._followed.add(key)
        statement = module.statements[number]
        self.found.statements.setdefault(module.name, {})[number] = statement.text
        self.found.names[module.name] |= statement.binds
        for use in statement.uses:
            if use[0] in statement.imports:
                target, names = statement.imports[use[0]]
                self.follow(target, (*names, *use[1:]), module.name)
            elif module.binding(use[0]) or not (use[0] in statement.local or use[0] in _BUILTIN):
                self.follow(module.name, use, module.name)
            if use[-1] in _COMPUTED or use[0] in _COMPUTED:
                self.follow(module.name, (), module.name)
        if not statement.uses:
            for target, names in statement.imports.values():
                self.follow(target, names, module.name)


def parse(name: str, text: str, *, package: bool = False) -> ModuleSource:
    """Split a module into statements. Raise `SyntaxError`."""
    lines = text.splitlines()
    statements, stars = [], []
    for node in ast.parse(text).body:
        reader = _NameCollector(name if package else name.rpartition(".")[0])
        reader.visit(node)
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        has_side_effects = not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
        )
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            has_side_effects = any(not isinstance(each, ast.Name | ast.Tuple) for each in targets)
        statements.append(
            Statement(
                "\n".join(lines[first - 1 : node.end_lineno]),
                frozenset(_bound_by(node)),
                frozenset(reader.uses),
                frozenset(reader.local),
                reader.imports,
                isinstance(node, ast.Import | ast.ImportFrom),
                has_side_effects,
            )
        )
        stars += reader.stars
    return ModuleSource(name, tuple(statements), tuple(stars))


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds at its own level, not inside functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for child in ast.iter_child_nodes(node):
            yield from _bound_by(child)


class _NameCollector(ast.NodeVisitor):
    """Collect the names used and bound anywhere in a statement. Ignore annotations, which do not affect results."""

    def __init__(self, package: str) -> None:
        self._package = package
        self.uses: set[tuple[str, ...]] = set()
        self.local: set[str] = set()
        self.imports: dict[str, Target] = {}
        self.stars: list[str] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.local.add(node.id)
        else:
            self.uses.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self.uses.add((inner.id, *reversed(names)))
        else:
            self.visit(inner)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self.imports[alias.asname] = (alias.name, ())
            else:
                top = alias.name.partition(".")[0]
                self.imports[top] = (top, ())

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parts = self._package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module or "") if part)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(module)
            else:
                self.imports[alias.asname or alias.name] = (module, (alias.name,))

    def visit_arg(self, node: ast.arg) -> None:
        self.local.add(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.local.add(node.name)
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.local.add(node.name)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.local.add(node.name)
        self.generic_visit(node)
