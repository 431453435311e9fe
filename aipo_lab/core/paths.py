"""Paths that people give."""

from __future__ import annotations

from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether something is at `path`; no for what cannot be a path at all (too long, a NUL in it)."""
    try:
        return path.exists()
    except OSError:
        return False
