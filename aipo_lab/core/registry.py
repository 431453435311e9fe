"""One way to plug things in: a name, the definition behind it, and the package it comes from.

There is a registry for every kind of thing that can be added (engines, rankers, worlds, …). What this package brings
are the modules and folders below the registry's `home`: importing one calls `add`. What other packages bring are entry
points of the registry's `group`, named like the thing; loading one calls `add` too. Hence adding something is one file,
or one entry point of another package, and no edit elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from aipo_lab.core.config import suggest
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.plugin_source import distribution_label, source_hash


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What every registered thing says of itself.

    `version` is part of store keys: raise it when the same settings give other results. `requires` are packages to
    import that are not installed with the lab, `install` the command that brings them.
    """

    version: int = 1
    requires: tuple[str, ...] = ()
    install: str = ""

    def check_installed(self, what: str) -> None:
        """Raise `MissingDependency` with the install command if a required package is not here."""
        from importlib.util import find_spec

        missing = [package for package in self.requires if find_spec(package) is None]
        if missing:
            raise MissingDependency(f"{what} needs {', '.join(missing)}; install with: {self.install}")


D = TypeVar("D", bound=Definition)


@dataclass(frozen=True)
class Offer:
    """A registered name as a person sees it: where it comes from, and why it cannot be used if it cannot."""

    kind: str
    name: str
    origin: str
    version: int | None
    problem: str = ""


class Registry(Generic[D]):
    """The definitions of one kind of thing, by name."""

    def __init__(self, kind: str, group: str, home: str) -> None:
        self.kind = kind
        self.group = group
        self.home = home
        self._definitions: dict[str, D] = {}
        self._plugins: dict[str, EntryPoint] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._home_loaded = False
        REGISTRIES[group] = self

    def add(self, name: str, definition: D) -> None:
        """Register `definition` under `name`; raises `UserError` if the name is taken."""
        if name in self._definitions:
            raise UserError(f"{self.kind} {name!r} is already registered; choose another name")
        self._definitions[name] = definition

    def names(self) -> list[str]:
        """All names: this package's in the order of registration, then those that other packages offer, sorted."""
        self._load_home()
        return list(dict.fromkeys([*self._definitions, *sorted(_entry_points(self.group))]))

    def get(self, name: str) -> D:
        """The definition of `name`.

        Raises `UserError` listing the valid names, naming the package whose plug-in is broken, or the packages if
        several offer the name.
        """
        if name not in self._definitions:
            self._load_home()
        if name not in self._definitions:
            self._load_plugin(name)
        return self._definitions[name]

    def working(self) -> dict[str, D]:
        """The definitions of all names whose packages can be loaded; `offers` tells what is wrong with the others."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except UserError:
                continue
        return found

    def offers(self) -> list[Offer]:
        """Every name with its origin, the broken ones with the reason."""
        found = []
        for name in self.names():
            try:
                definition = self.get(name)
            except UserError as error:
                origin = " and ".join(map(_package, _entry_points(self.group)[name]))
                found.append(Offer(self.kind, name, origin, None, str(error)))
                continue
            plugin = self._plugins.get(name)
            found.append(Offer(self.kind, name, _package(plugin) if plugin else "aipo-lab", definition.version))
        taken = [name for name in _entry_points(self.group) if name in self._definitions and name not in self._plugins]
        found += [
            Offer(self.kind, name, _package(point), None, f"the name {name!r} is aipo-lab's own; choose another")
            for name in taken
            for point in _entry_points(self.group)[name]
        ]
        return found

    def identity(self, name: str) -> dict[str, Any]:
        """What tells the thing called `name` from others of that name in store keys.

        For a plug-in: its distribution, version and a hash of its source. Nothing for what this package brings,
        unless its definition's `version` is above 1.
        """
        if name not in self._identities:
            self._identities[name] = self._identity(name)
        return self._identities[name]

    def _identity(self, name: str) -> dict[str, Any]:
        version = self.get(name).version
        own = {} if version == 1 else {"version": version}
        plugin = self._plugins.get(name)
        if plugin is None:
            return own
        return {"distribution": distribution_label(plugin.dist), "source": source_hash(plugin), **own}

    @contextmanager
    def restored(self) -> Iterator[None]:
        """On leaving, everything registered inside the block is forgotten (for tests of plug-ins)."""
        definitions, plugins = dict(self._definitions), dict(self._plugins)
        try:
            yield
        finally:
            self._definitions, self._plugins = definitions, plugins
            self._identities.clear()

    def _load_home(self) -> None:
        """Import this package's own modules of the kind; heavy packages are imported where they use them."""
        if not self._home_loaded:
            self._home_loaded = True
            for module in pkgutil.iter_modules(importlib.import_module(self.home).__path__):
                importlib.import_module(f"{self.home}.{module.name}")

    def _load_plugin(self, name: str) -> None:
        found = _entry_points(self.group).get(name, [])
        if not found:
            raise UserError(f"unknown {self.kind} {name!r}; {suggest(str(name), self.names())}")
        if len(found) > 1:
            packages = " and ".join(sorted(map(_package, found)))
            raise UserError(f"{self.kind} {name!r} is offered by {packages}; uninstall all but one of them")
        point, package = found[0], _package(found[0])
        before = dict(self._definitions)
        try:
            point.load()
        except Exception as error:  # whatever another package's import can raise
            self._definitions = before
            raise UserError(
                f"{self.kind} {name!r}: the package {package} offers it as {point.value}, which cannot be loaded "
                f"({type(error).__name__}: {error}); repair or uninstall {package}"
            ) from error
        if name not in self._definitions:
            raise UserError(
                f"{self.kind} {name!r}: the package {package} offers it as {point.value}, which registers no "
                f"{self.kind} of that name (docs/extending.md shows how)"
            )
        for added in self._definitions.keys() - before.keys():
            self._plugins[added] = point


REGISTRIES: dict[str, Registry[Any]] = {}
"""The registries that were imported so far, by entry point group."""


def _entry_points(group: str) -> Mapping[str, list[EntryPoint]]:
    """The entry points of a group by name."""
    return _find_entry_points(group, tuple(sys.path))


@lru_cache
def _find_entry_points(group: str, path: tuple[str, ...]) -> Mapping[str, list[EntryPoint]]:  # noqa: ARG001
    """Read once for a search path, since finding them reads every installed package's metadata."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def _package(point: EntryPoint) -> str:
    """Name and version of the package that declares an entry point."""
    return distribution_label(point.dist) or point.value
