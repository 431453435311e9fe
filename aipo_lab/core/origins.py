"""Where settings were written, so that an error can name the line of the file or the `--set` it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aipo_lab.core.yaml_text import KeyPath, YamlDocument


@dataclass(frozen=True)
class Origins:
    """By the path of a setting, what to call the place it was written at (`line 4`, `--set 'seed=1'`).

    Of places that set the same, the one added last is in force.
    """

    places: Mapping[KeyPath, str] = field(default_factory=dict)

    def with_place(self, path: KeyPath, place: str) -> Origins:
        """These and one more, which replaces what was said of `path` and everything below it."""
        kept = {known: text for known, text in self.places.items() if known[: len(path)] != path}
        return Origins({**kept, path: place})

    def blame(self, path: Sequence[str | int], problem: str) -> str:
        """`problem` of the setting at `path`, after the place it was written at where that is known."""
        place = self._place(tuple(path), problem)
        return f"{place}: {problem}" if place else problem

    def blame_all(self, keys: Sequence[str], problem: str) -> str:
        """`problem` of several settings, given as dotted keys, after the places of all that are known."""
        found = [self._place(tuple(key.split(".")), problem) for key in keys]
        places = list(dict.fromkeys(place for place in found if place))
        return f"{' and '.join(places)}: {problem}" if places else problem

    def _place(self, path: KeyPath, problem: str) -> str | None:
        """The setting's own place, or that of a setting inside it that the problem names."""
        around = [known for known in self.places if path[: len(known)] == known]
        if around:
            return self.places[max(around, key=len)]
        inside = [known for known in self.places if known[: len(path)] == path]
        named = [known for known in inside if _names(problem, known[len(path) :])]
        return self.places[max(named, key=len)] if named else None


def _names(problem: str, path: KeyPath) -> bool:
    dotted = ".".join(map(str, path))
    return re.search(rf"(?<![\w.]){re.escape(dotted)}(?!\w)", problem) is not None


def file_origins(document: YamlDocument, below: KeyPath = ()) -> Origins:
    """The lines of all settings below a place of a YAML document; dotted keys are taken apart."""
    places: dict[KeyPath, str] = {}
    for path, line in document.lines.items():
        if path[: len(below)] == below and len(path) > len(below):
            first, *rest = path[len(below) :]
            places[*str(first).split("."), *rest] = f"line {line}"
    return Origins(places)
