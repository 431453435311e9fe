"""The command line: parse, call, print. Everything heavy is imported by the command that needs it.

Each module registers the commands of one kind.
"""

from __future__ import annotations

from aipo_lab.cli import models, results, score, sweeps, upkeep
from aipo_lab.cli.group import main

__all__ = ["main", "models", "results", "score", "sweeps", "upkeep"]
