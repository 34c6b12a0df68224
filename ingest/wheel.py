"""Builds the client wheel: packages `zarkov` (with `zarkov.client`) and `zibrato`, for programs that only send.

Which modules go in is computed from their imports; in the wheel `ingest.x` is `zarkov.x` and `ingest.metrics.x` is
`zibrato.x`. The format is that of PEP 427, the metadata that of PEP 566; the same sources give the same bytes.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.exceptions import IngestError

ROOTS = ("ingest", "ingest.client", "ingest.metrics", "ingest.metrics.zibrato")
PACKAGES = {"ingest.metrics": "zibrato", "ingest": "zarkov"}  # longer names first
REQUIRED = ("pyzmq", "pymongo")
SUMMARY = "Sends events and metrics to Zarkov"
DESCRIPTION = """\
Sends events to a Zarkov ingester, and measures code.

    from zarkov.client import AcknowledgedClient, ZarkovClient
    from zibrato import Zibrato

Needs pyzmq and pymongo (for its bson), and nothing of Zarkov's server.
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class WheelError(IngestError):
    """The sources cannot be laid out as a wheel."""

    code = "cannot_build"


@dataclass(frozen=True, slots=True)
class Module:
    """A source file that goes into the wheel."""

    name: str
    path: Path
    source: str
    imports: tuple[tuple[ast.Import | ast.ImportFrom, tuple[str, ...]], ...]  # with the modules of ours they name

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__`."""
        return self.path.name == "__init__.py"


def modules(root: Path) -> dict[str, Module]:
    """What the publishing side imports, by name. `root` is the folder that has `ingest/`. Raises `WheelError`."""
    found: dict[str, Module] = {}
    waiting = [name for name in ROOTS if _file(root, name)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _read(root, name)
            waiting += [needed for _, names in found[name].imports for needed in names]
            waiting += [name.rpartition(".")[0]] if "." in name else []
    return found


def _file(root: Path, name: str) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((each for each in (path / "__init__.py", path.with_suffix(".py")) if each.is_file()), None)


def _read(root: Path, name: str) -> Module:
    path = _file(root, name)
    if path is None:
        raise WheelError(f"there is no module {name} below {root}")
    source = path.read_text(encoding="utf-8")
    found: list[tuple[ast.Import | ast.ImportFrom, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise WheelError(f"{name}, line {node.lineno}: relative imports are not taken along")
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.append((node, tuple(each if _file(root, each) else str(node.module) for each in names)))
        elif isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            found.append((node, tuple(alias.name for alias in node.names)))
    return Module(name, path, source, tuple(found))


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == "ingest"


def new_name(name: str) -> str:
    """What a module is called in the wheel."""
    for package, renamed in PACKAGES.items():
        if name == package or name.startswith(f"{package}."):
            return renamed + name.removeprefix(package)
    raise WheelError(f"{name} is no module of the client")


def rewritten(module: Module) -> str:
    """The module's source with its imports as they are in the wheel."""
    lines = module.source.splitlines(keepends=True)
    for node, names in module.imports:
        if isinstance(node, ast.Import):
            raise WheelError(f"{module.name}, line {node.lineno}: write `from {names[0]} import ...`")
        origin = str(node.module)
        targets = {new_name(name).removesuffix(f".{alias.name}") for name, alias in zip(names, node.names, strict=True)}
        if targets != {new_name(origin)}:
            raise WheelError(
                f"{module.name}, line {node.lineno}: {origin} becomes {sorted(targets)}: import them apart"
            )
        pattern = rf"\bfrom\s+{re.escape(origin)}\s+import\b"
        lines[node.lineno - 1], count = re.subn(
            pattern, f"from {new_name(origin)} import", lines[node.lineno - 1], count=1
        )
        if count != 1:
            raise WheelError(f"{module.name}, line {node.lineno}: the import cannot be read")
    return "".join(lines)


def contents(root: Path) -> dict[str, bytes]:
    """Path in the wheel and content of every file but the record."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for name, module in sorted(modules(root).items()):
        path = new_name(name).replace(".", "/") + ("/__init__.py" if module.is_package else ".py")
        found[path] = rewritten(module).encode()
    for package in sorted({path.split("/")[0] for path in found}):
        found[f"{package}/py.typed"] = b""
    info = f"{_stem(project)}.dist-info"
    found[f"{info}/METADATA"] = "\n".join(_metadata(project)).encode()
    found[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: zarkov\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    found[f"{info}/licenses/LICENSE"] = (root / "LICENSE").read_bytes()
    return found


def _stem(project: dict[str, Any]) -> str:
    return f"zarkov_client-{project['version']}"


def _metadata(project: dict[str, Any]) -> Iterator[str]:
    yield "Metadata-Version: 2.1"
    yield "Name: zarkov-client"
    yield f"Version: {project['version']}"
    yield f"Summary: {SUMMARY}"
    yield f"License: {project['license']}"
    yield f"Requires-Python: {project['requires-python']}"
    for requirement in project["dependencies"]:
        if re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower() in REQUIRED:
            yield f"Requires-Dist: {requirement}"
    yield "Description-Content-Type: text/markdown"
    yield ""
    yield DESCRIPTION


def build(root: Path, folder: Path) -> Path:
    """Write the wheel into `folder` and return its path. Raises `WheelError`."""
    files = contents(root)
    stem = _stem(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    record = f"{stem}.dist-info/RECORD"
    rows = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items()]
    files[record] = "".join([*rows, f"{record},,\n"]).encode()
    path = folder / f"{stem}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(__file__).resolve().parent.parent, Path(sys.argv[1]))}\n")
