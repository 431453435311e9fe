"""One experiment at several scales: what a sweep file says differently for other profiles than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aipo_lab.core.yaml_text import KeyPath, YamlDocument
from aipo_lab.pipeline.recipe import profile_lineage, profile_names

REPLACED = ("recipe", "methods", "space", "description")
"""What a section below `profiles` may say; it stands for the file's own."""


def at_profile(document: YamlDocument, profile: str | None) -> YamlDocument:
    """The document as it is for `profile`, with the lines its parts were written on.

    The section of the profile, or of the nearest one that it builds on, replaces what the file says otherwise. All
    sections stay in, for the check of the file's form.
    """
    sections = document.value.get("profiles")
    name = profile or document.value.get("profile", "micro")
    if not isinstance(sections, Mapping) or name not in profile_names():
        return document
    chosen = next((one for one in profile_lineage(name) if one in sections), None)
    if chosen is None or not isinstance(sections[chosen], Mapping):
        return document
    given = {key: value for key, value in sections[chosen].items() if key in REPLACED}
    return YamlDocument({**document.value, **given}, _moved(document.lines, ("profiles", chosen), given))


def _moved(lines: Mapping[KeyPath, int], below: KeyPath, given: Mapping[str, Any]) -> dict[KeyPath, int]:
    """Lines by path, those of the `given` keys `below` a section standing for the file's own."""
    n = len(below)
    kept = {path: line for path, line in lines.items() if path[0] not in given}
    return kept | {
        path[n:]: line
        for path, line in lines.items()
        if path[:n] == below and path[n : n + 1] != () and path[n] in given
    }
