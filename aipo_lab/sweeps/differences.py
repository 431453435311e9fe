"""In which settings, inputs, plug-ins and versions two stage runs differ: what makes their keys differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aipo_lab.core.store import ArtifactRequest

LONGEST_VALUE = 60
"""Characters of a value in a message."""


class Change(NamedTuple):
    """A setting by its dotted name, and what it is on each side; `ABSENT` where a side does not have it."""

    name: str
    here: Any
    there: Any

    def text(self) -> str:
        """`train.beta is 0.2 instead of 0.1`."""
        if self.there is ABSENT:
            return f"{self.name} is {_shown(self.here)}, which is not a setting there"
        if self.here is ABSENT:
            return f"{self.name} is no setting any more (there {_shown(self.there)})"
        return f"{self.name} is {_shown(self.here)} instead of {_shown(self.there)}"


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class Differences:
    """What differs between two runs of one stage; `inputs` maps names to both references."""

    settings: tuple[Change, ...]
    plugins: tuple[Change, ...]
    inputs: tuple[Change, ...]
    version: Change | None

    @property
    def own(self) -> int:
        """How many things of the stage itself differ, its inputs left out."""
        return len(self.settings) + len(self.plugins) + (self.version is not None)

    def texts(self) -> list[str]:
        """One sentence part for each."""
        version = (
            [] if self.version is None else [f"the stage's version is {self.version.here}, not {self.version.there}"]
        )
        plugins = [f"plug-in {change.text()}" for change in self.plugins]
        inputs = [f"its input {change.text()}" for change in self.inputs]
        return [*version, *(change.text() for change in self.settings), *plugins, *inputs]


def differences(here: ArtifactRequest, there: Mapping[str, Any]) -> Differences:
    """What differs between a stage run and another of the same stage, given by its manifest (or the like)."""
    version = there["version"]
    return Differences(
        settings=changes(here.config, there["config"]),
        plugins=changes(here.plugins, there.get("plugins", {})),
        inputs=changes(here.inputs, there["inputs"]),
        version=None if version == here.version else Change("version", here.version, version),
    )


def identity_of(request: ArtifactRequest) -> dict[str, Any]:
    """A stage run in the form of a manifest, for `differences`."""
    return {
        "version": request.version,
        "config": request.config,
        "inputs": request.inputs,
        "plugins": request.plugins,
    }


def changes(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[Change, ...]:
    """The settings in which two nested mappings differ, by dotted name, in the order of the first."""
    ours, theirs = dict(_leaves(here)), dict(_leaves(there))
    names = [*ours, *(name for name in theirs if name not in ours)]
    return tuple(
        Change(name, ours.get(name, ABSENT), theirs.get(name, ABSENT))
        for name in names
        if ours.get(name, ABSENT) != theirs.get(name, ABSENT)
    )


def _leaves(values: Mapping[str, Any], below: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; an empty section is a value of its own, lists are compared as a whole."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{below}{key}.")
        else:
            yield f"{below}{key}", list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
