"""The form of a sweep file: its keys, and what each may be."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from pydantic import Field, field_validator

from aipo_lab.core.config import StrictModel, suggest
from aipo_lab.pipeline.recipe import profile_names
from aipo_lab.results.rules import DEFAULT_RULE

ALL_METHODS = "all"
"""As the value of `method`: every method of the file."""

RESERVED_NAMES = ("store", "evaluations")
"""Folders of `runs/` that are not sweeps'."""


MOST_SEEDS = 100


class ScaleSpec(StrictModel):
    """What a sweep file says instead for another profile."""

    description: str = Field("", description="what the sweep is for, at this scale")
    recipe: dict[str, Any] = Field(default_factory=dict, description="stands for the file's recipe")
    methods: dict[str, str | dict[str, Any]] | None = Field(None, description="stands for the file's methods")
    space: list[dict[str, Any]] | None = Field(None, min_length=1, description="stands for the file's space")


class SelectSpec(StrictModel):
    """How the best trial is chosen, and on which prompts its result is reported; a text alone is its `rule`."""

    rule: str = Field(DEFAULT_RULE, description="rule that picks the best trial")
    split: bool = Field(
        True,
        description="pick on one half of a benchmark's prompts and report on the other, where it has enough of them "
        "and values of each; false: both on all of them",
    )


class SweepSpec(StrictModel):
    """A sweep file."""

    name: str = Field(
        description="name of the sweep and of its output folder: letters, digits, . _ -, the first a letter or digit"
    )
    profile: str = Field("micro", description="profile every trial starts from")
    description: str = Field("", description="what the sweep is for")
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="changes to the profile for all trials: dotted keys and values"
    )
    space: list[dict[str, Any]] = Field(
        min_length=1,
        description="grids: each entry an objective or methods, and lists of values for hyperparameters or recipe keys",
    )
    seeds: int = Field(
        1,
        ge=1,
        le=MOST_SEEDS,
        description="repeats of every point of the space, with the recipe's seed and the next ones",
    )
    methods: dict[str, str | dict[str, Any]] = Field(
        default_factory=dict,
        description="by name: a method's own sweep file, sought beside this one, or its recipe keys and values; "
        "entries of the space choose among them with `method`",
    )
    select: SelectSpec = Field(default_factory=SelectSpec, description="how the best trial is chosen")
    profiles: dict[str, ScaleSpec] = Field(
        default_factory=dict,
        description="by profile: a recipe, space and description that stand for the file's with that profile, or one "
        "that builds on it",
    )

    @field_validator("select", mode="before")
    @classmethod
    def _rule_alone(cls, value: object) -> object:
        return {"rule": value} if isinstance(value, str) else value

    @field_validator("name", mode="before")
    @classmethod
    def _one_spelling(cls, name: object) -> object:
        """Composed and decomposed letters look the same, and are the same file to some systems."""
        return unicodedata.normalize("NFC", name) if isinstance(name, str) else name

    @field_validator("profiles")
    @classmethod
    def _known_profiles(cls, profiles: dict[str, ScaleSpec]) -> dict[str, ScaleSpec]:
        if unknown := [name for name in profiles if name not in profile_names()]:
            raise ValueError(f"unknown profile {unknown[0]!r}; {suggest(unknown[0], profile_names())}")
        return profiles

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise ValueError(
                "names the output folder: at most 100 letters, digits, dots, _ and -, the first a letter or digit"
            )
        if name.casefold() in RESERVED_NAMES:
            raise ValueError(f"runs/{name} is a folder of the program itself; choose another name")
        return name

    @field_validator("methods")
    @classmethod
    def _names_of_methods(cls, methods: dict[str, Any]) -> dict[str, Any]:
        for name in methods:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name == ALL_METHODS:
                raise ValueError(
                    f"{name!r} is no name of a method: at most 40 small letters, digits and _, the first a letter, "
                    f"and not {ALL_METHODS!r}, which stands for every method"
                )
        return methods
