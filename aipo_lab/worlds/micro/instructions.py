"""The instructions of the micro world: plain English requests for one to four attributes of one animal."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from aipo_lab.worlds.micro.knowledge import ATTRIBUTES, ENTITIES

MAX_ATTRIBUTES = 4
HELD_OUT_SHARE = 0.2

# {be} is "is" for one attribute and "are" for several; the parser insists on it.
TEMPLATES: tuple[str, ...] = (
    "Tell me the {attributes} of the {entity}.",
    "What {be} the {attributes} of the {entity}?",
    "Please describe the {attributes} of the {entity}.",
    "I want to know the {attributes} of the {entity}.",
    "Can you name the {attributes} of the {entity}?",
    "Write about the {attributes} of the {entity}.",
)


@dataclass(frozen=True)
class Request:
    """What an instruction asks for: these attributes, in this order, of this entity."""

    entity: str
    attributes: tuple[str, ...]


def write_instruction(request: Request, template: str) -> str:
    """The text of `request` in the wording of `template`, one of `TEMPLATES`."""
    be = "is" if len(request.attributes) == 1 else "are"
    return template.format(be=be, attributes=_join(request.attributes), entity=request.entity)


def parse_instruction(text: str) -> Request | None:
    """Read an instruction back, strictly.

    Returns None unless `text` is exactly what `write_instruction` could have written: a known wording, a
    known entity, one to four known attributes and none of them twice.
    """
    for pattern in _patterns():
        match = pattern.fullmatch(text)
        if match is None:
            continue
        request = Request(match["entity"], tuple(re.split(r", | and ", match["attributes"])))
        return request if _is_well_formed(request, match) else None
    return None


def draw_instruction(rng: random.Random, attribute_sets: Sequence[Sequence[Request]]) -> str:
    """Draw one instruction: number of attributes, request, order and wording, each uniformly.

    `attribute_sets` holds the requests to draw from, grouped by their number of attributes.
    """
    request = rng.choice(rng.choice(attribute_sets))
    order = tuple(rng.sample(request.attributes, len(request.attributes)))
    return write_instruction(Request(request.entity, order), rng.choice(TEMPLATES))


@lru_cache(maxsize=8)
def split_requests(seed: int) -> tuple[list[list[Request]], list[list[Request]]]:
    """Split all (entity, attribute set) combinations into those of the pool and the held-out ones.

    Returns (pool, held out), each grouped by number of attributes (1 to 4), attributes in canonical order.
    A fifth of each group is held out, so that no ordering or wording of it ever appears in the pool or in a
    demonstration.
    """
    rng = random.Random(f"micro/held-out/{seed}")
    pool, held_out = [], []
    for size in range(1, MAX_ATTRIBUTES + 1):
        group = [Request(e, a) for e in ENTITIES for a in itertools.combinations(ATTRIBUTES, size)]
        rng.shuffle(group)
        cut = round(len(group) * HELD_OUT_SHARE)
        held_out.append(group[:cut])
        pool.append(group[cut:])
    return pool, held_out


def _join(attributes: Sequence[str]) -> str:
    """English list without a comma before "and"."""
    *rest, last = attributes
    return f"{', '.join(rest)} and {last}" if rest else last


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], ...]:
    """One pattern per template, with the groups `attributes`, `entity` and perhaps `be`."""
    groups = {
        "be": "(?P<be>is|are)",
        "attributes": "(?P<attributes>[a-z, ]+)",
        "entity": "(?P<entity>[a-z]+)",
    }
    return tuple(re.compile(re.escape(t).replace(r"\{", "{").replace(r"\}", "}").format(**groups)) for t in TEMPLATES)


def _is_well_formed(request: Request, match: re.Match[str]) -> bool:
    """Whether names, number, list punctuation and the verb of a matched instruction are all right."""
    count = len(request.attributes)
    return (
        request.entity in ENTITIES
        and all(name in ATTRIBUTES for name in request.attributes)
        and len(set(request.attributes)) == count
        and count <= MAX_ATTRIBUTES
        and match["attributes"] == _join(request.attributes)
        and match.groupdict().get("be") in (None, "is" if count == 1 else "are")
    )
