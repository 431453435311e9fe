"""The licence of a base model, as far as the files in its folder say: what is made from the model is bound by it."""

from __future__ import annotations

from pathlib import Path

import yaml

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json
from aipo_lab.core.yaml_text import parse_yaml
from aipo_lab.sweeps.points import Point

PATTERNS = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


def licence_files(point: Point) -> list[Path]:
    """The files of the base model that state its licence; none where its folder is gone."""
    folder = _folder(point)
    found = [path for pattern in PATTERNS for path in folder.glob(pattern)] if folder else []
    return sorted(path for path in set(found) if path.is_file())


def licence_name(point: Point) -> str | None:
    """What the base model's card, or the note of where it was fetched from, calls its licence; None if neither does."""
    folder = _folder(point)
    if folder is None:
        return None
    return _of_card(folder / "README.md") or _of_asset(folder / "asset.json")


def _folder(point: Point) -> Path | None:
    """The base model's folder, where it is still the one that the sweep used."""
    if point.base_fingerprint is None:
        return None
    try:
        return point.base_folder()
    except UserError:
        return None


def _of_card(path: Path) -> str | None:
    try:
        header = parse_yaml(path.read_text(encoding="utf-8").split("---\n", 2)[1])
        said = header.get("license_name") if header.get("license") == "other" else header.get("license")
    except (OSError, ValueError, LookupError, AttributeError, yaml.YAMLError):
        return None
    return said if isinstance(said, str) else None


def _of_asset(path: Path) -> str | None:
    try:
        said = read_json(path)["licence"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return said if isinstance(said, str) else None
