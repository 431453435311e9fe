"""The two kinds of failure a person sees: their own mistake, and a stage that could not finish."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave: the message names the value, the rule and the next step."""

    @classmethod
    def from_problems(cls, heading: str, problems: Iterable[str]) -> UserError:
        """One error for several problems, one per line under `heading`."""
        return cls("\n".join([heading, *(f"  - {problem}" for problem in problems)]))


class StageFailed(RuntimeError):
    """A stage ended without its artifact: the message is the reason the trial reports."""


class MissingDependency(RuntimeError):
    """An optional package is needed: the message carries the install command."""


class InputLost(StageFailed):
    """An input of a stage is damaged or gone: it must be made again before the stage can run."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"its input {reference} {reason}")
        self.reference = reference
        self.reason = reason
