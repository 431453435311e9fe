"""What a judge is asked: templates in files, and a user's own in their place.

A template is a text with names in braces, each of which stands for a text once or more. Braces in what is put in, and
other braces in the template, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

PLACES: Mapping[str, tuple[str, ...]] = {
    "additive": ("prompt", "response"),
    "pairwise": ("prompt", "response_a", "response_b"),
    "meta": ("prompt", "response", "judgment_a", "judgment_b"),
}
"""What every kind of template must name."""


def _read(value: object) -> object:
    """The text of the file that `value` names; a text with `{`, or none, as it is."""
    if not isinstance(value, str) or "{" in value:
        return value
    try:
        return Path(value).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(
            f"must be a template's text, or its file, which cannot be read from {Path.cwd()}: {reason}"
        ) from None


JudgeTemplate = Annotated[str | None, BeforeValidator(_read)]
"""A setting: the text of a template, which may be given as the path of its file."""


def check_places(kind: str, template: str | None) -> None:
    """Raise `ValueError` if a user's template lacks a place that its kind needs."""
    missing = [f"{{{name}}}" for name in PLACES[kind] if template is not None and f"{{{name}}}" not in template]
    if missing:
        needed = ", ".join(f"{{{name}}}" for name in PLACES[kind])
        raise ValueError(f"the {kind} template lacks {', '.join(missing)}; it needs {needed}")


@cache
def shipped(kind: str) -> str:
    """The template of a kind that comes with the package."""
    return (resources.files("aipo_lab.ranking.llm_judge") / "templates" / f"{kind}.txt").read_text(encoding="utf-8")


def fill(template: str, texts: Mapping[str, str]) -> str:
    """The template with the texts in their places; a last line break is no part of what is asked."""
    places = re.compile("|".join(re.escape(f"{{{name}}}") for name in texts))
    return places.sub(lambda found: texts[found[0][1:-1]], template.removesuffix("\n"))


def fill_to_fit(
    template: str, texts: Mapping[str, str], times_too_long: Callable[[str], float]
) -> tuple[str | None, bool]:
    """The filled template, and whether texts were cut at their ends to make it fit.

    `times_too_long`: how long a filled template is, 1 where it just fits. The longest text is cut first. None in place
    of the text where even empty texts do not fit.
    """
    left, is_cut = dict(texts), False
    while (ratio := times_too_long(filled := fill(template, left))) > 1:
        longest = max(left, key=lambda name: len(left[name]))
        if not left[longest]:
            return None, True
        left[longest] = left[longest][: int(len(left[longest]) * min(0.95, 1 / ratio))]
        is_cut = True
    return filled, is_cut
