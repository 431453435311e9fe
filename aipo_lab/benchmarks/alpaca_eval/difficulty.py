"""What the official length control knows of the 805 instructions: difficulties, and two baselines made to game length.

AlpacaEval's own `df_gamed.csv` lies on a model hub only. Where it has not been fetched, the package's `rebuilt.csv`
takes its place: numbers rebuilt from public files alone (see `rebuilding`), with which the rates of 52 published models
come out to a median of 0.0005 and at most 0.15 points.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

REBUILT = Path(__file__).with_name("rebuilt.csv")
GAMED = ("gpt4_1106_preview_verbose", "gpt4_1106_preview_concise")
"""The baseline told to be verbose and told to be concise: the regularising rows of the official fit."""
GAMED_WEIGHT = 0.1
"""Of each regularising row (official: lambda of 0.2 over two baselines)."""


@dataclass(frozen=True)
class Instructions:
    """Of the instructions in official order: `difficulty` (805,). Of the gamed baselines' rows, block by block,
    (1610,): `std_delta_lengths` (baseline's less theirs, in standard deviations), `preferences` (0-1), `places`.
    """

    source: Literal["official", "rebuilt"]
    difficulty: np.ndarray
    std_delta_lengths: np.ndarray
    preferences: np.ndarray
    places: np.ndarray

    @property
    def gamed_features(self) -> np.ndarray:
        """Tanh of the standardised length difference and the difficulty of each regularising row, (1610, 2)."""
        return np.column_stack([np.tanh(self.std_delta_lengths), self.difficulty[self.places]])

    @classmethod
    def official(cls, path: Path) -> Instructions:
        """From the official `df_gamed.csv`."""
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        places = np.array([int(row["index"]) for row in rows])
        difficulty = np.zeros(places.max() + 1)
        difficulty[places] = [float(row["instruction_difficulty"]) for row in rows]
        lengths, preferences = ([float(row[key]) for row in rows] for key in ("std_delta_len", "preference"))
        return cls("official", difficulty, np.array(lengths), np.array(preferences), places)

    @classmethod
    def rebuilt(cls) -> Instructions:
        """From the package's own file."""
        rows = _rebuilt_rows()
        lengths, preferences = (
            np.array([float(row[f"{kind}_{key}"]) for kind in ("verbose", "concise") for row in rows])
            for key in ("std_delta_length", "preference")
        )
        difficulty = np.array([float(row["difficulty"]) for row in rows])
        return cls("rebuilt", difficulty, lengths, preferences, np.tile(np.arange(len(rows)), len(GAMED)))

    @contextmanager
    def file(self) -> Iterator[Path]:
        """These numbers as a file in the official format, which the package reads."""
        with TemporaryDirectory(prefix="aipo-lab-") as folder:
            path = Path(folder) / "df_gamed.csv"
            with path.open("w", newline="") as stream:
                write = csv.writer(stream).writerow
                write(("preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline", "model"))
                for n, place in enumerate(self.places):
                    numbers = (self.std_delta_lengths[n], self.difficulty[place])
                    model = GAMED[n * len(GAMED) // len(self.places)]
                    write((repr(float(self.preferences[n])), place, *(repr(float(x)) for x in numbers), False, model))
            yield path


def fingerprint(instruction: str) -> str:
    """How an instruction is recognised without its text."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def official_places() -> Mapping[str, int]:
    """The official place of each instruction by its fingerprint."""
    return {row["instruction_sha256"]: place for place, row in enumerate(_rebuilt_rows())}


@cache
def _rebuilt_rows() -> list[dict[str, str]]:
    with REBUILT.open(newline="") as stream:
        return list(csv.DictReader(stream))
