"""What a plug-in is made of: its distribution, and a hash of the source it runs, so that an edit changes store keys."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path


def distribution_label(distribution: Distribution | None) -> str:
    """Name and version, as in `my-package 1.0`; empty without a distribution."""
    return f"{distribution.name} {distribution.version}" if distribution else ""


def source_hash(point: EntryPoint) -> str:
    """A hash of the source of the entry point's module and of what it imports from its own distribution.

    Modules of other distributions are not looked at; a compiled module counts by its bytes.
    """
    roots = _top_level_names(point)
    sources: dict[str, bytes] = {}
    left = [point.module]
    while left:
        name = left.pop()
        path = _source_path(name)
        if name in sources or path is None or name.split(".")[0] not in roots:
            continue
        sources[name] = path.read_bytes()
        left += _imported_names(name, path, sources[name])
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}/{len(sources[name])}/".encode() + sources[name])
    return digest.hexdigest()[:16]


def _top_level_names(point: EntryPoint) -> set[str]:
    """The packages and modules that the plug-in's distribution installs, as far as it says."""
    names = {point.module.split(".")[0]}
    if point.dist is not None:
        names |= set((point.dist.read_text("top_level.txt") or "").split())
        names |= {file.parts[0].removesuffix(".py") for file in point.dist.files or [] if file.suffix == ".py"}
    return names


def _source_path(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # `from package import function` names no module
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def _imported_names(name: str, path: Path, source: bytes) -> Iterator[str]:
    """The modules that a module's source may import, relative ones in full."""
    if path.suffix != ".py":
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
