"""What the rankers of several recipes stand on, found on this machine before anything runs, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.offline import without_hub
from aipo_lab.ranking.ranker import RANKERS, RankerResources, RankerSettings

FoundRankers = Mapping[str, RankerResources]
"""By `ranker_name`; rankers that need nothing are left out."""


def ranker_name(settings: RankerSettings) -> str:
    """A ranker's settings as text."""
    return settings.model_dump_json()


def find_ranker_resources(rankers: Iterable[RankerSettings]) -> dict[str, RankerResources]:
    """The resources of every ranker; raises one `UserError` naming every problem."""
    found, problems = _look_for_all(rankers)
    if problems:
        raise UserError("\n".join(problems))
    return found


def foresee_ranker_resources(rankers: Iterable[RankerSettings]) -> tuple[dict[str, RankerResources], list[str]]:
    """The resources for a plan, which downloads none, without those that are not here; and why these are not."""
    known = list(rankers)
    with without_hub():
        found, problems = _look_for_all(known)
    return found, problems


def _look_for_all(rankers: Iterable[RankerSettings]) -> tuple[dict[str, RankerResources], list[str]]:
    """What there is of the rankers' resources, and a sentence for each that there is not."""
    found: dict[str, RankerResources] = {}
    problems: dict[str, None] = {}
    for name, settings in {ranker_name(settings): settings for settings in rankers}.items():
        definition = RANKERS.get(settings.ranker)
        try:
            resources = definition.resources(settings)
        except (UserError, MissingDependency) as error:
            problems[str(error)] = None
            continue
        if resources.identity or resources.folders:
            found[name] = resources
    return found, list(problems)
