"""Methods of a sweep: whole fragments of a recipe under a name, in a file of their own or inline.

A method's file is a sweep file of one trial, so that it runs and plans on its own; its recipe and its trial's settings
are the fragment. The trials of a method are those of the profile with the fragment, then `--set`, then their own point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aipo_lab.core.config import read_yaml_document, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins, file_origins
from aipo_lab.core.yaml_text import KeyPath, YamlDocument
from aipo_lab.sweeps.scale import at_profile
from aipo_lab.sweeps.space import entry_place, grid, section_problems, space_problems
from aipo_lab.sweeps.spec import ALL_METHODS, SweepSpec
from aipo_lab.sweeps.trial import Method, overrides_of

RECIPE_FILE_HINT = "a method's file is a sweep file whose space is one trial"


def load_methods(
    methods: Mapping[str, str | Mapping[str, Any]], document: YamlDocument, path: Path, profile: str
) -> dict[str, Method]:
    """The methods of a sweep file at `path`; raises one `UserError` with every problem of any of them."""
    found, problems = {}, []
    for name, given in methods.items():
        line = document.line(("methods", name))
        place = f"line {line}: methods.{name}" if line else f"methods.{name}"
        try:
            found[name] = (
                _of_file(path.parent / given, profile) if isinstance(given, str) else _inline(name, given, document)
            )
        except UserError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise UserError.from_problems(f"sweep file {path} is not valid:", problems)
    return found


def _inline(name: str, given: Mapping[str, Any], document: YamlDocument) -> Method:
    below: KeyPath = ("methods", name)
    if problems := [*_without_objective(given), *section_problems(given, below, document)]:
        raise UserError("; ".join(problems))
    return Method(dict(given), file_origins(document, below))


def _without_objective(given: Mapping[str, Any]) -> list[str]:
    """What keeps the keys of a method from saying which objective it trains."""
    section = given.get("objective")
    named = "objective.name" in given or (isinstance(section, Mapping) and "name" in section)
    return [] if named else ["a method says which objective it trains: objective.name is missing"]


def _of_file(path: Path, profile: str) -> Method:
    document = at_profile(read_yaml_document(path, "method's file"), profile)
    if "space" not in document.value:
        raise UserError(f"{path} has no space; {RECIPE_FILE_HINT}")
    origins = _named(file_origins(document), path)
    spec = validate(SweepSpec, document.value, f"method's file {path}", origins)
    problems = section_problems(spec.recipe, ("recipe",), document)
    problems += space_problems(spec.space, (), document, spec.methods)
    if problems:
        raise UserError.from_problems(f"method's file {path} is not valid:", problems)
    points = [point for entry in spec.space for point in grid(entry)]
    if spec.methods:
        raise UserError(f"{path} chooses among methods itself; name those in this file instead")
    if len(points) != 1:
        raise UserError(f"{path} holds {len(points)} trials, and a method is one; {RECIPE_FILE_HINT}")
    changes = dict(spec.recipe) | dict(overrides_of(points[0]))
    written = _named(file_origins(document, ("recipe",)), path)
    for dotted, _ in overrides_of(points[0]):
        written = written.with_place(tuple(dotted.split(".")), f"{path.name}, {entry_place(0, document)}")
    return Method(changes, written)


def _named(origins: Origins, path: Path) -> Origins:
    """Lines that say which file they are of."""
    return Origins({key: f"{path.name}, {place}" for key, place in origins.places.items()})


def with_methods_named(space: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of a space with `method: all` written out."""
    return [
        {key: list(methods) if key == "method" and value == ALL_METHODS else value for key, value in entry.items()}
        for entry in space
    ]
